/**
 * A workspace of many small files and one large one through the real programs: snapshot, the same again, hibernate, wake, compared byte for byte.
 * Run: npm run bench:snapshots -- [files] [large MiB] [file|s3]. What issue and docs name: npm run bench:snapshots -- 1000000 4096
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createMusterProcess, findFreePort, waitFor } from '../test/support/muster-process.ts';
import { startS3Server } from '../test/support/versitygw.ts';
import { waitUntilReady } from './lab.ts';

const FILES = Number(process.argv[2] ?? 20_000);
const LARGE_MIB = Number(process.argv[3] ?? 256);
const STORE = process.argv[4] ?? 'file';
const BOUND_MS = 6 * 3_600_000;
const FILES_IN_FOLDER = 1_000;

const dir = mkdtempSync(join(tmpdir(), 'muster-bench-snapshots-'));
const s3 = STORE === 's3' ? await startS3Server(['bucket']) : null;
const muster = await createMusterProcess({
  dataDir: join(dir, 'data'),
  sandboxPort: await findFreePort(11),
  env: {
    MUSTER_AGENT: 'on',
    MUSTER_PROVIDERS: 'vastai',
    MUSTER_READINESS_INTERVAL: '1 second',
    ...(s3
      ? {
          MUSTER_SNAPSHOT_URL: `s3://bucket?region=us-east-1&endpoint=${s3.endpoint}`,
          MUSTER_SNAPSHOT_ACCESS_KEY_ID: s3.key.accessKeyId,
          MUSTER_SNAPSHOT_SECRET_ACCESS_KEY: s3.key.secretAccessKey,
        }
      : {}),
  },
});

interface Snapshot {
  status: string;
  createdAt: string;
  takenAt: string;
  verifiedAt: string;
  addedBytes: number;
  failureDetail: string | null;
}

/** A few hundred bytes each, all different, as a training set may have them. */
function fill(folder: string): number {
  let bytes = 0;
  for (let index = 0; index < FILES; index++) {
    const sub = join(folder, `d${Math.floor(index / FILES_IN_FOLDER)}`);
    if (index % FILES_IN_FOLDER === 0) mkdirSync(sub);
    const content = `${index} ${'x'.repeat(index % 700)}`;
    bytes += content.length;
    writeFileSync(join(sub, `f${index}`), content);
  }
  const handle = openSync(join(folder, 'large'), 'w');
  for (let mib = 0; mib < LARGE_MIB; mib++) bytes += writeSync(handle, randomBytes(1_048_576));
  closeSync(handle);
  return bytes;
}

/** One digest over the name, mode, owner, time and content of everything. */
function digest(folder: string): string {
  const script = `cd "$1" && { find . -mindepth 1 -printf '%p %y %m %U %G %T@ %l\\n' | LC_ALL=C sort; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; } | sha256sum`;
  return execFileSync('bash', ['-c', script, 'bash', folder], { encoding: 'utf8' }).trim();
}

async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const startedAt = performance.now();
  const result = await work();
  process.stdout.write(`${what}: ${((performance.now() - startedAt) / 1_000).toFixed(1)} s\n`);
  return result;
}

async function post(path: string, body?: unknown): Promise<Record<string, never>> {
  const reply = await muster.request('POST', `/api/v1${path}`, body);
  if (reply.status !== 202) throw new Error(`POST ${path} answered ${reply.status}: ${JSON.stringify(reply.body)}`);
  return reply.body as Record<string, never>;
}

async function untilStatus(instanceId: string, status: string): Promise<string> {
  let found: { status: string; providerInstanceId: string | null } | undefined;
  await waitFor(
    async () => {
      found = (await muster.request('GET', `/api/v1/instances/${instanceId}`)).body as typeof found;
      return found?.status === status;
    },
    BOUND_MS,
    `the instance is ${status}`,
  );
  return join(dir, 'data', 'sandbox', 'agents', `vastai-${found?.providerInstanceId ?? ''}`, 'workspace');
}

async function take(instanceId: string): Promise<void> {
  const { snapshot } = (await post(`/instances/${instanceId}/snapshots`)) as unknown as { snapshot: { id: string } };
  let shown: Snapshot | undefined;
  await waitFor(
    async () => {
      shown = (await muster.request('GET', `/api/v1/snapshots/${snapshot.id}`)).body as unknown as Snapshot;
      return shown.status === 'verified' || shown.status === 'failed';
    },
    BOUND_MS,
    'the snapshot is settled',
  );
  const { status, createdAt, takenAt, verifiedAt, addedBytes, failureDetail } = shown as Snapshot;
  if (status !== 'verified') throw new Error(`the snapshot failed: ${failureDetail}`);
  const seconds = (from: string, to: string) => ((Date.parse(to) - Date.parse(from)) / 1_000).toFixed(1);
  process.stdout.write(
    `  taken in ${seconds(createdAt, takenAt)} s, read back in ${seconds(takenAt, verifiedAt)} s, ${addedBytes} bytes added\n`,
  );
}

try {
  await muster.start();
  await waitUntilReady(muster);
  const order = { gpu: 'RTX 4090', maxPriceUsdPerHour: '0.95', strategy: 'coldstart', workspace: {} };
  const { instances } = (await post('/instances', order)) as unknown as { instances: { id: string }[] };
  const instanceId = instances[0]?.id ?? '';
  const workspace = await untilStatus(instanceId, 'ready');
  mkdirSync(workspace, { recursive: true });
  const bytes = fill(workspace);
  process.stdout.write(`${FILES} small files and ${LARGE_MIB} MiB, ${bytes} bytes, on ${STORE}\n`);
  const before = digest(workspace);
  await timed('first snapshot', () => take(instanceId));
  await timed('the same again', () => take(instanceId));
  await timed('hibernate', async () => {
    await post(`/instances/${instanceId}/hibernate`, {});
    await untilStatus(instanceId, 'hibernated');
  });
  rmSync(workspace, { recursive: true, force: true }); // what a destroyed machine had
  const woken = await timed('wake', async () => {
    await post(`/instances/${instanceId}/wake`, {});
    return untilStatus(instanceId, 'ready');
  });
  if (readdirSync(woken).length === 0 || digest(woken) !== before)
    throw new Error('the workspace is another than before');
  process.stdout.write('identical: names, modes, owners, times, content\n');
} finally {
  await muster.kill('SIGTERM');
  await s3?.close();
  rmSync(dir, { recursive: true, force: true });
}
