import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startEmbeddedPostgres, type EmbeddedPostgres, type EmbeddedState } from '../../db/embedded-postgres.ts';
import { isProcessAlive } from '../../db/embedded-processes.ts';

const OWNER = join(import.meta.dirname, '..', 'support', 'embedded-owner.ts');
const WAIT_MS = 15_000;

let folder: string;
let servers: EmbeddedPostgres[];
let owners: ChildProcess[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-embedded-'));
});

beforeEach(() => {
  servers = [];
  owners = [];
});

afterEach(async () => {
  for (const owner of owners) if (owner.exitCode === null && owner.signalCode === null) owner.kill('SIGKILL');
  await Promise.all(servers.map((server) => server.stop()));
  // Whatever a killed owner left is adopted and, being the last, stopped.
  const last = await start();
  await last.stop();
  expect(isProcessAlive(last.pid)).toBe(false);
});

afterAll(() => rm(folder, { recursive: true, force: true }));

describe('the embedded Postgres', () => {
  it('starts durable, on loopback, with a password and a clean second start on the same port', async () => {
    const first = await start();
    const settings = await query(
      first.url,
      `select name, setting from pg_settings where name in ('fsync', 'synchronous_commit', 'listen_addresses', 'server_encoding')`,
    );
    expect(Object.fromEntries(settings.map((row) => [row.name, row.setting]))).toEqual({
      fsync: 'on',
      synchronous_commit: 'on',
      listen_addresses: '127.0.0.1',
      server_encoding: 'UTF8',
    });
    await query(first.url, 'drop table if exists kept; create table kept (n int)');
    expect((await stat(join(folder, 'postgres', 'password'))).mode & 0o777).toBe(0o600);
    const wrong = new URL(first.url);
    wrong.password = 'wrong';
    await expect(query(wrong.href, 'select 1')).rejects.toThrow(/password authentication failed/);
    await first.stop();
    expect(isProcessAlive(first.pid)).toBe(false);

    const second = await start();
    expect(second.url).toBe(first.url);
    expect(second.isAdopted).toBe(false);
    expect(await query(second.url, 'select count(*)::int as n from kept')).toEqual([{ n: 0 }]);
  });

  it('is one server for all processes that start at once, and stays while one of them lives', async () => {
    const [mine, other, third] = await Promise.all([start(), startOwner(), startOwner()]);
    expect(other.url).toBe(mine.url);
    expect(third.url).toBe(mine.url);
    expect([mine.isAdopted, other.isAdopted, third.isAdopted].filter((isAdopted) => !isAdopted)).toHaveLength(1);
    const mineAgain = await start();
    await mine.stop();
    await other.stop();
    await mineAgain.stop();
    expect(await query(third.url, 'select 1 as n')).toEqual([{ n: 1 }]);
    await third.stop();
    await until(() => !isProcessAlive(third.pid));
  });

  it('survives the SIGKILL of its owner: the next start adopts it with all that was committed', async () => {
    const owner = await startOwner();
    await query(owner.url, 'drop table if exists kept; create table kept (n int)');
    await query(owner.url, 'insert into kept select generate_series(1, 1000)');
    owner.process.kill('SIGKILL');
    await once(owner.process, 'exit');
    expect(isProcessAlive(owner.pid)).toBe(true);

    const next = await start();
    expect(next.isAdopted).toBe(true);
    expect(next.pid).toBe(owner.pid);
    expect(await query(next.url, 'select count(*)::int as n from kept')).toEqual([{ n: 1000 }]);
    await next.stop();
    expect(isProcessAlive(owner.pid)).toBe(false);
  });

  it('comes back on the same port when its postmaster is killed, with what was committed', async () => {
    const states: EmbeddedState[] = [];
    const server = await start((state) => states.push(state));
    await query(server.url, 'drop table if exists kept; create table kept (n int)');
    for (const n of [1, 2, 3]) {
      await query(server.url, `insert into kept values (${n})`);
      const killed = server.pid;
      process.kill(killed, 'SIGKILL');
      await until(() => server.pid !== killed && server.state === 'ready');
    }
    expect(await query(server.url, 'select array_agg(n order by n) as kept from kept')).toEqual([{ kept: [1, 2, 3] }]);
    expect(states).toEqual(['ready', 'restarting', 'ready', 'restarting', 'ready', 'restarting', 'ready']);
  });

  it('is brought back by one of its users when the owner and the postmaster are killed together', async () => {
    const owner = await startOwner();
    const server = await start();
    owner.process.kill('SIGKILL');
    process.kill(server.pid, 'SIGKILL');
    const killed = owner.pid;
    await until(() => server.pid !== killed && server.state === 'ready');
    expect(await query(owner.url, 'select 1 as n')).toEqual([{ n: 1 }]);
  });

  it('starts although the pid file names a living process that is no Postgres', async () => {
    const first = await start();
    await first.stop();
    const pidFile = join(folder, 'postgres', 'cluster', 'postmaster.pid');
    await writeFile(
      pidFile,
      `${process.pid}\n${folder}/postgres/cluster\n1700000000\n${first.port}\n\n127.0.0.1\n\nready   \n`,
    );
    const second = await start();
    expect(second.isAdopted).toBe(false);
    expect(Number((await readFile(pidFile, 'utf8')).split('\n')[0])).toBe(second.pid);
  });

  it('moves to another port at start when somebody else took its own', async () => {
    const first = await start();
    await first.stop();
    const squatter = createServer().listen(first.port, '127.0.0.1');
    await once(squatter, 'listening');
    const second = await start();
    squatter.close();
    expect(second.port).not.toBe(first.port);
    expect(await query(second.url, 'select 1 as n')).toEqual([{ n: 1 }]);
  });

  it('works below a directory that only we may enter', async () => {
    const closed = join(folder, 'closed');
    await mkdir(closed);
    await chmod(closed, 0o700);
    const server = await start(undefined, join(closed, 'data'));
    expect(await query(server.url, 'select 1 as n')).toEqual([{ n: 1 }]);
    await server.stop();
    const again = await start(undefined, join(closed, 'data'));
    expect(again.url).toBe(server.url);
  });

  it('refuses a cluster of another major version, naming both', async () => {
    const first = await start();
    await first.stop();
    const file = join(folder, 'postgres', 'cluster', 'PG_VERSION');
    await writeFile(file, '17\n');
    await expect(start()).rejects.toThrow(/made by Postgres 17; this Muster brings 18/);
    await writeFile(file, '18\n');
  });
});

async function start(onStateChange?: (state: EmbeddedState) => void, dataDir = folder): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({
    dataDir,
    cacheDir: join(folder, 'cache'),
    log: () => {},
    onStateChange,
  });
  servers.push(server);
  return server;
}

interface Owner {
  process: ChildProcess;
  url: string;
  pid: number;
  isAdopted: boolean;
  stop(): Promise<void>;
}

async function startOwner(): Promise<Owner> {
  const child = fork(OWNER, [folder, join(folder, 'cache')], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  owners.push(child);
  const told = await new Promise<{ url: string; pid: number; isAdopted: boolean }>((resolve, reject) => {
    child.on('message', (message: { state: string; url: string; pid: number; isAdopted: boolean }) => {
      if (message.state === 'told') resolve(message);
    });
    child.once('exit', (code) => reject(new Error(`the owner ended with ${String(code)}`)));
  });
  return {
    process: child,
    ...told,
    async stop() {
      const ended = once(child, 'exit');
      child.send('stop');
      await ended;
    },
  };
}

async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(text)).rows;
  } finally {
    await client.end();
  }
}

/** Level-triggered, with a bound. */
async function until(isTrue: () => boolean): Promise<void> {
  const deadline = performance.now() + WAIT_MS;
  while (!isTrue()) {
    if (performance.now() > deadline) throw new Error(`not within ${WAIT_MS} ms: ${isTrue.toString()}`);
    await delay(10);
  }
}
