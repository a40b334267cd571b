import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { OrderContext } from '../../../agent/orders.ts';
import { obtainRestic } from '../../../agent/snapshots/obtain-restic.ts';
import { runRestic } from '../../../agent/snapshots/run-restic.ts';
import { createSnapshotOrders } from '../../../agent/snapshots/snapshot-orders.ts';
import { until } from '../../support/fleet-database.ts';

let home: string;
let server: Server | undefined;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'muster-agent-snapshots-'));
  mkdirSync(join(home, 'workspace'));
});
afterEach(async () => {
  rmSync(home, { recursive: true, force: true });
  server?.closeAllConnections();
  await new Promise((resolve) => (server ? server.close(resolve) : resolve(null)));
  server = undefined;
});

/** A program that stands for restic where its own behaviour is hard to bring about. */
function script(body: string): string {
  const file = join(home, `restic-${createHash('sha256').update(body).digest('hex').slice(0, 8)}`);
  writeFileSync(file, `#!/bin/bash\nif [ "$1" = version ]; then echo "restic 0.16.4 compiled"; exit 0; fi\n${body}\n`);
  chmodSync(file, 0o755);
  return file;
}

function context(signal = new AbortController().signal): OrderContext & { notes: string[] } {
  const notes: string[] = [];
  return {
    signal,
    notes,
    progress: ({ note }) => void notes.push(note ?? ''),
    log: (message) => void notes.push(message),
  };
}

const INPUT = {
  snapshotId: 'snp_abcdefghijklmnop',
  instanceId: 'ins_abcdefghijklmnop',
  path: null,
  repository: { kind: 'gateway', path: '/api/v1/workspaces/ins_abcdefghijklmnop/repository/' },
  resticDigests: {},
  excludes: ['*.tmp'],
  uploadLimitKib: 100,
  isFirst: true,
  password: 'the-password-of-the-repository',
  token: 'mw_the-token-of-the-gateway',
};

function take(program: string, input: object = {}, given = context()) {
  const orders = createSnapshotOrders({
    url: 'http://127.0.0.1:9',
    directory: join(home, 'agent'),
    workspace: join(home, 'workspace'),
    searchPath: '',
    obtain: () => Promise.resolve({ program, version: '0.16.4' }),
  });
  const order = {
    id: 'ord_abcdefghijklmnop',
    kind: 'take_snapshot' as const,
    input: { ...INPUT, ...input },
    remainingMs: 60_000,
  };
  return orders.take_snapshot(order, given);
}

const SUMMARY = `echo '{"message_type":"summary","snapshot_id":"0123abcd","total_files_processed":1,"total_bytes_processed":2,"data_added":3}'`;

describe('taking a snapshot', () => {
  it('gives restic its secrets by environment and never by argument, in the folder itself, with its limits', async () => {
    const seen = join(home, 'seen');
    const program = script(`{ echo "$PWD"; echo "$@"; env; } > ${seen}\n${SUMMARY}`);
    const result = await take(program);
    expect(result).toMatchObject({ resticId: '0123abcd', files: 1, bytes: 2, addedBytes: 3, resticVersion: '0.16.4' });
    const [cwd = '', args = '', ...environment] = readFileSync(seen, 'utf8').split('\n');
    expect(cwd).toBe(join(home, 'workspace'));
    expect(args).toMatch(/^backup \. --json --host=ins_abcdefghijklmnop --tag=snp_abcdefghijklmnop /);
    expect(args).toContain('--exclude=*.tmp');
    expect(args).toContain('--limit-upload=100');
    expect(args).not.toMatch(/the-password|mw_/);
    expect(environment).toContain('RESTIC_PASSWORD=the-password-of-the-repository');
    expect(environment.find((line) => line.startsWith('RESTIC_REPOSITORY='))).toBe(
      'RESTIC_REPOSITORY=rest:http://node:mw_the-token-of-the-gateway@127.0.0.1:9/api/v1/workspaces/ins_abcdefghijklmnop/repository/',
    );
    expect(environment.filter((line) => /^(MUSTER|npm)_/.test(line))).toEqual([]);
  });

  it('is failed where files could not be read, after trying again, and never half done', async () => {
    const count = join(home, 'count');
    const program = script(
      `echo x >> ${count}\necho '{"message_type":"error","item":"/secret"}' >&2\n${SUMMARY}\nexit 3`,
    );
    await expect(take(program)).rejects.toMatchObject({
      code: 'snapshot_incomplete',
      message: expect.stringContaining('/secret') as string,
    });
    expect(readFileSync(count, 'utf8')).toBe('x\nx\nx\n');
  });

  it('is done where a file that vanished was not there any more the next time', async () => {
    const program = script(`if [ ! -e ${home}/again ]; then touch ${home}/again; exit 3; fi\n${SUMMARY}`);
    expect(await take(program)).toMatchObject({ files: 1 });
  });

  it('is failed where the workspace is gone that had files before; a first one is empty', async () => {
    rmSync(join(home, 'workspace'), { recursive: true });
    await expect(take(script(SUMMARY), { isFirst: false })).rejects.toMatchObject({ code: 'workspace_missing' });
    expect(existsSync(join(home, 'workspace'))).toBe(false);
    expect(await take(script(SUMMARY))).toMatchObject({ resticId: '0123abcd' });
  });

  it('says what restic said, without secrets', async () => {
    const program = script('echo "wrong password the-password-of-the-repository for $RESTIC_REPOSITORY" >&2; exit 1');
    const failure = await take(program).then(
      () => '',
      (error: Error) => error.message,
    );
    expect(failure).toContain('wrong password [secret] for');
    expect(failure).not.toMatch(/the-password|mw_the/);
  });

  it('ends restic with all that it started when it is not wanted any more', async () => {
    const abort = new AbortController();
    const pids = join(home, 'pids');
    const program = script(
      `trap '' TERM\nsleep 600 &\necho $! > ${pids}.aside\necho $$ >> ${pids}.aside\nmv ${pids}.aside ${pids}\nwait; sleep 600`,
    );
    const taking = take(program, {}, context(abort.signal));
    taking.catch(() => {});
    await until(() => existsSync(pids), 'it runs');
    const running = readFileSync(pids, 'utf8').trim().split('\n').map(Number);
    abort.abort();
    await expect(taking).rejects.toMatchObject({ code: 'canceled' });
    await until(() => running.every((pid) => !isAlive(pid)), 'all have ended');
    expect(readdirSync(join(home, 'agent'))).not.toContain('restic.pid');
  });
});

describe('running restic', () => {
  it('does not wait a quarter of an hour for a file that is not there', async () => {
    const program = script(
      'for i in 1 2 3 4 5 6; do echo "Load(<data/66a41556a7>, 588, 305) returned error, retrying after 1ms: open /x: no such file or directory" >&2; done; sleep 600',
    );
    const outcome = await runRestic(program, { args: ['dump'], env: {}, signal: new AbortController().signal });
    expect(outcome).toMatchObject({ code: null, ended: 'missing' });
  });

  it('throws what its reader throws, and ends', async () => {
    const program = script('for i in $(seq 100); do echo "no json"; done; sleep 600');
    const run = runRestic(program, {
      args: ['ls'],
      env: {},
      signal: new AbortController().signal,
      onLine: (line) => void JSON.parse(line),
    });
    await expect(run).rejects.toThrow(SyntaxError);
  });
});

describe('obtaining restic', () => {
  async function serve(program: string): Promise<{ url: string; digest: string }> {
    const bytes = readFileSync(program);
    server = createServer((request, response) => {
      if (request.url !== `/api/v1/nodes/restic/linux-${process.arch}`) return void response.writeHead(404).end();
      response.end(gzipSync(bytes));
    });
    await new Promise<void>((resolve) => (server as Server).listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return { url, digest: createHash('sha256').update(bytes).digest('hex') };
  }
  const platform = `linux-${process.arch}`;
  const never = new AbortController().signal;

  it("takes the machine's own where it is new enough", async () => {
    const folder = join(home, 'bin');
    mkdirSync(folder);
    writeFileSync(join(folder, 'restic'), readFileSync(script(SUMMARY)), { mode: 0o755 });
    const found = await obtainRestic(
      { url: 'http://127.0.0.1:9', directory: home, searchPath: `/nowhere:${folder}` },
      {},
      never,
    );
    expect(found).toEqual({ program: join(folder, 'restic'), version: '0.16.4' });
  });

  it("downloads the control plane's, checks it, and keeps it", async () => {
    const { url, digest } = await serve(script(SUMMARY));
    const source = { url, directory: join(home, 'agent'), searchPath: '' };
    const found = await obtainRestic(source, { [platform]: digest }, never);
    expect(found.version).toBe('0.16.4');
    server?.close();
    expect(await obtainRestic(source, { [platform]: digest }, never)).toEqual(found);
  });

  it('runs nothing that is not what its checksum says', async () => {
    const { url } = await serve(script(SUMMARY));
    const source = { url, directory: join(home, 'agent'), searchPath: '' };
    await expect(obtainRestic(source, { [platform]: 'a'.repeat(64) }, never)).rejects.toThrow('checksum');
    expect(readdirSync(join(home, 'agent'))).toEqual([]);
    await expect(obtainRestic(source, {}, never)).rejects.toThrow('there is no restic');
  });
});

function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}
