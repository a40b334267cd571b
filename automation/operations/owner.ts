/**
 * Who holds a lease: host, boot, process and its start, data directory. Enough for another process of the same host to know that
 * a holder is dead and to take over at once instead of waiting for the lease to end.
 */
import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';

export function describeOwner(dataDir: string): string {
  const place = createHash('sha256').update(dataDir).digest('hex').slice(0, 12);
  return [
    hostname(),
    readBootId(),
    process.pid,
    readStartTime(process.pid) ?? '',
    place,
    randomUUID().slice(0, 8),
  ].join('|');
}

/** Whether `owner` certainly runs no longer. A holder on another host or with another data directory is never called dead. */
export function isOwnerDead(owner: string, me: string): boolean {
  const [host, boot, pid, startTime, place] = owner.split('|');
  const [myHost, myBoot, , , myPlace] = me.split('|');
  if (owner === me || host !== myHost || place !== myPlace) return false;
  if (boot !== myBoot) return true;
  return readStartTime(Number(pid)) !== startTime;
}

function readBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return 'unknown';
  }
}

/** Clock ticks since boot at which the process started; undefined where there is no such process. A zombie counts as none. */
function readStartTime(pid: number): string | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ');
    return fields?.[0] === 'Z' || fields?.[0] === 'X' ? undefined : fields?.[19];
  } catch {
    if (process.platform === 'linux') return undefined;
    try {
      process.kill(pid, 0);
      return '';
    } catch {
      return undefined;
    }
  }
}
