/**
 * The crash matrix's hook, given to node by --import and inherited by operation children. Its URL carries `?dir=…`: whenever a crash
 * point is passed that `<dir>/armed.json` names, the victim named with it is killed with SIGKILL; each entry once, told by `<dir>/fired-N`.
 */
import { appendFileSync, closeSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { join } from 'node:path';
import type { CrashPointName } from '../../domain/crash-points.ts';
import type { Kill } from './crash-cells.ts';

export interface Armed {
  kills: readonly Kill[];
  postmasterPidFile: string;
}

const dir = new URL(import.meta.url).searchParams.get('dir') as string;
const controlPidFile = join(dir, 'control.pid');
/** Modules are loaded by then. Who is killed writes no cache of them at its end, and would be slow to start each time. */
const LOADED_MS = 3_000;

if (isControl()) {
  writeFileSync(controlPidFile, String(process.pid));
  setTimeout(() => flushCompileCache(), LOADED_MS).unref();
}

(globalThis as { musterCrashPoint?: (name: CrashPointName) => void }).musterCrashPoint = (name) => {
  const armed = readArmed();
  const index = armed?.kills.findIndex((kill, at) => kill.point === name && takeOnce(at)) ?? -1;
  const kill = armed?.kills[index];
  if (!armed || !kill) return;
  const victims = findVictims(kill, armed);
  appendFileSync(join(dir, 'kills.log'), `${name} ${kill.victim} ${victims.join(',')}\n`);
  for (const pid of victims) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // gone already
    }
  }
};

function isControl(): boolean {
  return /(^|\/)main\.ts$/.test(process.argv[1] ?? '') && !process.argv[1]?.includes('engine/child');
}

/** null: nothing is armed. */
function readArmed(): Armed | null {
  try {
    return JSON.parse(readFileSync(join(dir, 'armed.json'), 'utf8')) as Armed;
  } catch {
    return null;
  }
}

/** false: somebody did. */
function takeOnce(index: number): boolean {
  try {
    closeSync(openSync(join(dir, `fired-${index}`), 'wx'));
    return true;
  } catch {
    return false;
  }
}

function findVictims({ victim }: Kill, { postmasterPidFile }: Armed): number[] {
  const controlPid = Number(readFileSync(controlPidFile, 'utf8'));
  switch (victim) {
    case 'control':
      return [controlPid];
    case 'postgres':
      return [Number(readFileSync(postmasterPidFile, 'utf8').split('\n')[0])];
    case 'child':
      return descendants(controlPid).filter((pid) => commandOf(pid).includes('engine/child/main.ts'));
    case 'engine':
      return descendants(controlPid).filter((pid) => /^[^ ]*\/pulumi(\0| )/.test(commandOf(pid)));
  }
}

function descendants(root: number): number[] {
  const parents = new Map<number, number>();
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    try {
      parents.set(pid, Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[1]));
    } catch {
      // gone meanwhile
    }
  }
  const found: number[] = [];
  for (const [pid] of parents) {
    for (let at: number | undefined = pid; at && at > 1; at = parents.get(at)) {
      if (at === root && pid !== root) {
        found.push(pid);
        break;
      }
    }
  }
  return found;
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
