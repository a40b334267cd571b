import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createDuties, type Pods } from '../../agent/duties.ts';
import { createOrders, type OrderHandler } from '../../agent/orders.ts';
import { runRestic } from '../../agent/snapshots/run-restic.ts';
import { createWorkspaceLock, DEFAULT_LOCK, type WorkspaceLock } from '../../agent/workspace-lock.ts';
import { createWriteAccess } from '../../agent/write-access.ts';
import type { DesiredReply } from '../../api/contract/nodes.ts';
import { until } from '../support/fleet-database.ts';

let directory: string;
let did: string[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'muster-write-access-'));
  did = [];
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const lock: WorkspaceLock = {
  putOn: () => Promise.resolve(did.push('lock') > 0),
  takeOff: () => Promise.resolve(void did.push('unlock')),
};

/** An agent that was started: what it remembers lies in the directory. */
function start(bootId = 'boot-1', change: { handlers?: Record<string, OrderHandler>; lock?: WorkspaceLock } = {}) {
  const logged: string[] = [];
  const log = (line: string) => void logged.push(line);
  const pods: Pods = {
    apply: (desired) => void did.push(`apply ${desired.length}`),
    report: () => undefined,
    async stopAll() {
      await new Promise((resolve) => setImmediate(resolve));
      did.push('pods stopped');
    },
  };
  const orders = createOrders({ directory, handlers: change.handlers ?? {}, changed: () => {}, log });
  const file = join(directory, 'write-access.json');
  const writes = createWriteAccess({ file, lock: change.lock ?? lock, bootId, log });
  return { duties: createDuties({ pods, orders, writes, log }), orders, writes, logged };
}

const told = (isFenced: boolean, orders: DesiredReply['orders'] = []): DesiredReply => ({
  revision: 1,
  isFenced,
  orders,
  pods: [],
});
const order = { id: 'ord_aaaaaaaaaaaaaaaa', kind: 'take_snapshot', input: { token: 'mw_secret' }, remainingMs: 60_000 };

describe('write access to the workspace', () => {
  it('is ended after the pods, and remembered before anything is done', async () => {
    const { duties } = start();
    const over = duties.abandon('nobody is there');
    expect(readFileSync(join(directory, 'write-access.json'), 'utf8')).toContain('nobody is there');
    await over;
    expect(did).toEqual(['pods stopped', 'lock']);
  });

  it('is not there after a restart of the machine until the control plane says so', async () => {
    await start().duties.abandon('nobody is there');
    did.length = 0;
    const again = start('boot-2');
    await until(async () => did.includes('lock'), 'the lock of this boot');
    again.duties.fence(true);
    again.duties.apply(told(true, [order as never]));
    expect(did).toEqual(['pods stopped', 'lock']);
    expect(again.orders.reports()).toEqual([]);
    again.duties.apply({ ...told(false), revision: 2 });
    await until(async () => did.includes('apply 0'), 'the pods');
    expect(did).toEqual(['pods stopped', 'lock', 'unlock', 'apply 0']);
    expect(start('boot-3').writes.taken).toBeNull();
  });

  it('is locked once in a boot, and by an agent that was started again only where that was not done', async () => {
    await start().duties.abandon('nobody is there');
    did.length = 0;
    const again = start('boot-1');
    await until(async () => did.includes('pods stopped'), 'the pods to stop');
    again.duties.fence(false);
    await until(async () => again.writes.taken === null, 'write access');
    expect(did).toEqual(['pods stopped', 'unlock']);
  });

  it('begins nothing between the word that it may and the end of the lock', async () => {
    let takeOff = () => {};
    const slow: WorkspaceLock = { ...lock, takeOff: () => new Promise<void>((resolve) => (takeOff = resolve)) };
    const { duties } = start('boot-1', { lock: slow });
    duties.apply(told(true));
    duties.apply(told(false));
    await until(async () => did.includes('lock'), 'the lock');
    await new Promise((resolve) => setImmediate(resolve));
    duties.apply({ ...told(false), revision: 3 });
    expect(did).not.toContain('apply 0');
    takeOff();
    await until(async () => did.includes('apply 0'), 'the pods');
    // A fence that comes in between wins.
    did.length = 0;
    duties.fence(true);
    duties.fence(false);
    duties.fence(true);
    await until(async () => did.filter((one) => one === 'pods stopped').length === 2, 'both fences');
    takeOff();
    expect(did).not.toContain('apply 0');
  });

  it('ends a copy that runs, and forgets the key of its store', async () => {
    const pidFile = join(directory, 'pid');
    const program = join(directory, 'restic');
    writeFileSync(program, `#!/bin/sh\necho $$ >${pidFile}\nexec sleep 300\n`, { mode: 0o755 });
    const handlers: Record<string, OrderHandler> = {
      async take_snapshot(_order, { signal }) {
        await runRestic(program, { args: ['backup'], env: {}, signal });
        signal.throwIfAborted();
      },
    };
    const { duties, orders } = start('boot-1', { handlers });
    duties.apply(told(false, [order as never]));
    await until(async () => existsSync(pidFile) && readFileSync(pidFile, 'utf8') !== '', 'the copy to run');
    await duties.abandon('nobody is there');
    expect(existsSync(`/proc/${readFileSync(pidFile, 'utf8').trim()}`)).toBe(false);
    expect(orders.reports()).toMatchObject([{ status: 'failed', error: { code: 'abandoned' } }]);
    for (const name of readdirSync(directory, { recursive: true }) as string[]) {
      const path = join(directory, name);
      if (name.endsWith('.json')) expect(readFileSync(path, 'utf8')).not.toContain('mw_secret');
    }
    // Nothing is started any more, whatever is said.
    duties.apply(told(false, [{ ...order, id: 'ord_bbbbbbbbbbbbbbbb' } as never]));
    expect(orders.reports()).toHaveLength(1);
  });

  it('is left to whoever cannot be locked out, and that is said', async () => {
    const { duties, logged } = start('boot-1', {
      lock: { ...lock, putOn: () => Promise.reject(new Error('mount: permission denied')) },
    });
    await duties.abandon('nobody is there');
    expect(logged.join('\n')).toContain('cannot be made read-only here: mount: permission denied');
    did.length = 0;
    expect(start('boot-1').writes.taken).toBe('nobody is there');
  });
});

describe("the machine's own lock", () => {
  /** In mounts of its own, where this process is allowed to make them. */
  const inOwnMounts = (script: string, ...words: string[]) =>
    execFileSync('unshare', ['-rm', 'sh', '-euc', script, 'sh', ...words], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], LOCK: DEFAULT_LOCK },
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  const STEPS = `
    lock() { sh -c "$LOCK" sh "$1" "$2" && echo "$1" || echo "$1: $?"; }
    try() { (echo more >>"$1/file") 2>/dev/null && echo written || echo refused; }`;

  it('makes a workspace read-only and writable again, also one whose name has a blank', () => {
    const workspace = join(directory, 'a workspace');
    mkdirSync(workspace);
    const said = inOwnMounts(
      `${STEPS}
      try "$1"; lock lock "$1"; try "$1"; lock lock "$1"; cat "$1/file"; lock unlock "$1"; try "$1"; lock unlock "$1"; try "$1"`,
      workspace,
    );
    expect(said.trim().split('\n')).toEqual(
      'written,lock,refused,lock: 3,more,unlock,written,unlock,written'.split(','),
    );
  });

  it('locks a workspace that somebody writes in, and one that is a mount of its own', () => {
    const said = inOwnMounts(
      `${STEPS}
      mount -t tmpfs none "$1"; exec 7>"$1/open"; lock lock "$1"; try "$1"; lock unlock "$1"; try "$1"; [ -e "$1/open" ] && echo kept`,
      directory,
    );
    expect(said.trim().split('\n')).toEqual(['lock', 'refused', 'unlock', 'written', 'kept']);
  });

  it('leaves alone what is not there, and says where it is not allowed', async () => {
    const real = createWorkspaceLock(DEFAULT_LOCK, join(directory, 'nothing'), process.env as Record<string, string>);
    expect(await real.putOn()).toBe(false);
    const bin = join(directory, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'mount'), '#!/bin/sh\necho "mount: permission denied" >&2\nexit 1\n', { mode: 0o755 });
    const refused = createWorkspaceLock(DEFAULT_LOCK, directory, { PATH: `${bin}:/usr/bin:/bin` });
    await expect(refused.putOn()).rejects.toThrow(/permission denied/);
    expect(await createWorkspaceLock(null, directory, {}).putOn()).toBe(false);
  });
});
