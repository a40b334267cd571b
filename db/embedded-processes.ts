/**
 * The users of an embedded Postgres: the live Muster processes that share one cluster, as files named by process identity.
 *
 * An identity is a pid and, on Linux, the process's start time, so that a recycled pid is not mistaken for the process that died. Entries of the dead
 * are ignored and swept. Callers hold the cluster's lock; this is no lock itself.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Enters this process; the entry's name is what removes it. A process may be a user several times. */
export async function addUser(folder: string): Promise<string> {
  const name = `${identityOf(process.pid)}-${randomBytes(4).toString('hex')}`;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await writeFile(join(folder, name), '');
  return name;
}

export async function removeUser(folder: string, name: string): Promise<void> {
  await rm(join(folder, name), { force: true });
}

/** The pids of the live users; sweeps the dead ones' entries. */
export async function listUsers(folder: string): Promise<number[]> {
  const names = await readdir(folder).catch(() => []);
  const live: number[] = [];
  for (const name of names) {
    const pid = Number(name.split('-')[0]);
    if (isProcessAlive(pid) && name.startsWith(`${identityOf(pid)}-`)) live.push(pid);
    else await rm(join(folder, name), { force: true });
  }
  return live;
}

/** A zombie is dead: in a container nobody may ever reap it. */
export function isProcessAlive(pid: number): boolean {
  const status = readStatus(pid);
  if (status) return status.state !== 'Z' && status.state !== 'X';
  if (process.platform === 'linux') return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function identityOf(pid: number): string {
  return `${pid}-${readStatus(pid)?.startTicks ?? 'unknown'}`;
}

function readStatus(pid: number): { state: string; startTicks: string } | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The program's name is in parentheses and may contain anything: the fields are counted from the last one.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? '?', startTicks: fields[19] ?? 'unknown' };
  } catch {
    return null;
  }
}
