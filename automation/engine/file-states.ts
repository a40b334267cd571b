/** States that a version before 0.2 kept in files. They are not read any more; to start over them would forget what they hold. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Names of stacks that still hold something there. */
export async function listFileStates(dataDir: string): Promise<string[]> {
  const folder = join(dataDir, 'engine', 'state', '.pulumi', 'stacks', 'muster');
  const files = (await readdir(folder).catch(() => [])).filter((file) => file.endsWith('.json'));
  const held = await Promise.all(
    files.map(async (file) => ((await holdsResources(join(folder, file))) ? [file.slice(0, -'.json'.length)] : [])),
  );
  return held.flat().sort();
}

/** One that cannot be read may hold something. */
async function holdsResources(path: string): Promise<boolean> {
  try {
    const { checkpoint } = JSON.parse(await readFile(path, 'utf8')) as { checkpoint?: { latest?: Latest | null } };
    const { resources = [], pending_operations: pending = [] } = checkpoint?.latest ?? {};
    return pending.length > 0 || resources.some(({ custom, type }) => custom === true && !type.startsWith('pulumi:'));
  } catch {
    return true;
  }
}

interface Latest {
  resources?: { custom?: boolean; type: string }[];
  pending_operations?: unknown[];
}
