/** A snapshot through the real programs: Muster, its agent on a simulated machine, restic. Muster is killed while it reads back. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Instance } from '../../api/contract/instances.ts';
import type { Snapshot, SnapshotAccepted, Workspace } from '../../api/contract/snapshots.ts';
import { createAgentRunner, type AgentRunner } from '../../sandbox/agent/agent-runner.ts';
import { startSandbox, type Sandbox } from '../../sandbox/server.ts';
import { createMusterProcess, findFreePort, waitFor, type MusterProcess } from '../support/muster-process.ts';
import { resticMissing } from '../support/restic.ts';

const BOUND_MS = 240_000;

let dir: string;
let agents: AgentRunner;
let sandbox: Sandbox;
let muster: MusterProcess;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'muster-snapshots-e2e-'));
  const sandboxPort = await findFreePort(5);
  agents = createAgentRunner(join(dir, 'agents'));
  sandbox = await startSandbox({ port: sandboxPort, dir: join(dir, 'sandbox'), machineWatch: agents });
  muster = await createMusterProcess({
    dataDir: join(dir, 'data'),
    sandboxPort,
    env: { MUSTER_AGENT: 'on', MUSTER_READINESS_INTERVAL: '1 seconds', MUSTER_PROVIDERS: 'vastai' },
  });
  await muster.start();
  await waitFor(async () => (await muster.request('GET', '/ready')).status === 200, BOUND_MS);
}, BOUND_MS);
afterAll(async () => {
  await muster?.kill('SIGTERM');
  agents?.close();
  await sandbox?.close();
  rmSync(dir, { recursive: true, force: true });
});

describe.skipIf(resticMissing !== null)('a snapshot', () => {
  it(
    'that was taken and not read back when Muster was killed is read back after its start, and restored',
    async () => {
      const order = { gpu: 'RTX 4090', maxPriceUsdPerHour: '0.95', strategy: 'coldstart', workspace: {} };
      const accepted = await muster.request<{ instances: { id: string }[] }>('POST', '/api/v1/instances', order);
      const path = `/api/v1/instances/${accepted.body.instances[0]?.id}`;
      const look = async () => (await muster.request<Instance>('GET', path)).body;
      await waitFor(async () => (await look()).status === 'ready', BOUND_MS, 'ready');
      const workspace = join(dir, 'agents', `vastai-${(await look()).providerInstanceId}`, 'workspace');
      const content = randomBytes(60_000_000);
      writeFileSync(join(workspace, 'weights'), content);

      const begun = await muster.request<SnapshotAccepted>('POST', `${path}/snapshots`);
      expect(begun.status).toBe(202);
      const snapshotPath = `/api/v1/snapshots/${begun.body.snapshot.id}`;
      const show = async () => (await muster.request<Snapshot>('GET', snapshotPath)).body;
      await waitFor(async () => (await show()).takenAt !== null, BOUND_MS, 'it is taken');
      await muster.kill('SIGKILL');
      await muster.start();
      await waitFor(async () => ['verified', 'failed'].includes((await show()).status), BOUND_MS, 'it is read back');
      expect(await show()).toMatchObject({ status: 'verified', files: 1, verifiedBytes: 60_000_000 });

      writeFileSync(join(workspace, 'weights'), 'spoilt');
      const restore = await muster.request<{ operation: { id: string } }>('POST', `${path}/restore`);
      const operationPath = `/api/v1/operations/${restore.body.operation.id}`;
      const status = async () => (await muster.request<{ status: string }>('GET', operationPath)).body.status;
      await waitFor(async () => !['queued', 'running'].includes(await status()), BOUND_MS, 'it is restored');
      expect(await status()).toBe('succeeded');
      expect(readFileSync(join(workspace, 'weights')).equals(content)).toBe(true);

      const shown = (await muster.request<Workspace>('GET', `${path}/workspace`)).body;
      expect(shown).toMatchObject({ epoch: 1, store: 'file', lastVerifiedSnapshotId: begun.body.snapshot.id });
      expect(shown.storedBytes).toBeGreaterThan(60_000_000);
    },
    BOUND_MS,
  );
});
