/**
 * The terminal: where output goes and how questions are asked. With `--json` standard output carries the API's JSON and nothing else;
 * without it, tables for people. Questions, progress notes and errors go to standard error, so that a pipe gets results only.
 */
import { readFile } from 'node:fs/promises';
import type * as ClackPrompts from '@clack/prompts';
import { printable } from './format.ts';
import { CliError, EXIT } from './exit-code.ts';

export interface Terminal {
  readonly isJson: boolean;
  /** Whether a person sits there who can be asked. */
  readonly isInteractive: boolean;
  /** Whether lines may be rewritten in place. */
  readonly isLive: boolean;
  /** The API's JSON, on standard output. */
  printJson(value: unknown): void;
  /** One JSON document on one line, for streams. */
  printJsonLine(value: unknown): void;
  /** A line on standard output; nothing with `--json`. */
  print(line: string): void;
  printTable(head: readonly string[], rows: readonly (readonly string[])[]): Promise<void>;
  /** A note on standard error. */
  say(line: string): void;
  /** Each throws CliError where nobody can be asked (telling `instead`), and on Ctrl-C. */
  askText(message: string, instead: string, initial?: string): Promise<string>;
  askSecret(message: string, instead: string): Promise<string>;
  confirm(message: string, instead: string): Promise<boolean>;
}

export function createTerminal(options: { isJson: boolean }): Terminal {
  const { stdin, stdout, stderr } = process;
  const isInteractive = Boolean(stdin.isTTY && stderr.isTTY);

  async function ask<T extends string | boolean>(
    instead: string,
    question: (prompts: typeof ClackPrompts) => Promise<unknown>,
  ): Promise<T> {
    if (!isInteractive) throw new CliError(instead, EXIT.wrongUse);
    const prompts = await import('@clack/prompts');
    const answer = await question(prompts);
    if (prompts.isCancel(answer)) throw new CliError('Stopped; nothing was done.', EXIT.interrupted);
    return answer as T;
  }

  return {
    isJson: options.isJson,
    isInteractive,
    isLive: Boolean(stdout.isTTY) && !options.isJson,
    printJson: (value) => void stdout.write(`${JSON.stringify(value, null, 2)}\n`),
    printJsonLine: (value) => void stdout.write(`${JSON.stringify(value)}\n`),
    print(line) {
      if (!options.isJson) stdout.write(`${printable(line)}\n`);
    },
    async printTable(head, rows) {
      stdout.write(`${await formatTable(head, rows)}\n`);
    },
    say: (line) => void stderr.write(`${printable(line)}\n`),
    askText: (message, instead, initial) =>
      ask(instead, (prompts) =>
        prompts.text({ message, output: stderr, ...(initial === undefined ? {} : { initialValue: initial }) }),
      ),
    askSecret: (message, instead) => ask(instead, (prompts) => prompts.password({ message, output: stderr })),
    confirm: (message, instead) =>
      ask(instead, (prompts) => prompts.confirm({ message, output: stderr, initialValue: false })),
  };
}

const BORDER_NAMES = [
  'top',
  'top-mid',
  'top-left',
  'top-right',
  'bottom',
  'bottom-mid',
  'bottom-left',
  'bottom-right',
  'left',
  'left-mid',
  'mid',
  'mid-mid',
  'right',
  'right-mid',
] as const;

/** Columns without lines, as wide as they need be: what people read and `awk` can take apart. */
export async function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): Promise<string> {
  const { default: Table } = await import('cli-table3');
  const noBorder = Object.fromEntries(BORDER_NAMES.map((name) => [name, '']));
  const table = new Table({
    head: [...head],
    chars: { ...noBorder, middle: '  ' },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  table.push(...rows.map((row) => row.map(printable)));
  const lines = table.toString().split('\n');
  return lines.map((line) => line.trimEnd()).join('\n');
}

/** Reads a whole file, or standard input for "-". Throws CliError that names the option. */
export async function readTextOption(option: string, path: string): Promise<string> {
  try {
    if (path !== '-') return await readFile(path, 'utf8');
    const chunks: Buffer[] = [];
    for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks).toString('utf8');
  } catch (error) {
    throw new CliError(`${option}: ${(error as Error).message}`, EXIT.wrongUse, { cause: error });
  }
}
