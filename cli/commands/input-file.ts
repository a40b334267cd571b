/** Files that a person names for a command to read. */
import { readFile } from 'node:fs/promises';
import { CliError, EXIT } from '../exit-code.ts';

export async function readJson(file: string): Promise<Record<string, unknown>> {
  const text = await readText(file);
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch (error) {
    throw new CliError(`${file} is no JSON: ${(error as Error).message}`, EXIT.wrongUse);
  }
}

/** @param file `-` is standard input */
export async function readText(file: string): Promise<string> {
  if (file !== '-') {
    return readFile(file, 'utf8').catch((error: Error) => {
      throw new CliError(`It could not be read: ${error.message}`, EXIT.wrongUse);
    });
  }
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}
