/** A snapshot through the real programs: Muster, its agent on a simulated machine, restic. Muster is killed while it reads back. */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Instance } from '../../api/contract/instances.ts';
import type { Snapshot, SnapshotAccepted, Workspace } from '../../api/contract/snapshots.ts';
import { openMusterLab, type MusterLab } from '../support/muster-lab.ts';
import { waitFor } from '../support/muster-process.ts';
import { resticMissing } from '../support/restic.ts';

const BOUND_MS = 240_000;

let lab: MusterLab;
beforeAll(async () => {
  lab = await openMusterLab({
    env: { MUSTER_AGENT: 'on', MUSTER_AGENT_INTERVAL: '1 seconds', MUSTER_PROVIDERS: 'vastai' },
  });
}, BOUND_MS);
afterAll(() => lab?.close());

describe.skipIf(resticMissing !== null)('a snapshot', () => {
  it(
    'that was taken and not read back when Muster was killed is read back after its start, and restored',
    async () => {
      const order = { gpu: 'RTX 4090', maxPriceUsdPerHour: '0.95', strategy: 'coldstart', workspace: {} };
      const accepted = await lab.muster.request<{ instances: { id: string }[] }>('POST', '/api/v1/instances', order);
      const path = `/api/v1/instances/${accepted.body.instances[0]?.id}`;
      const look = async () => (await lab.muster.request<Instance>('GET', path)).body;
      await waitFor(async () => (await look()).status === 'ready', BOUND_MS, 'ready');
      const workspace = join(lab.dir, 'agents', `vastai-${(await look()).providerInstanceId}`, 'workspace');
      const content = randomBytes(20_000_000);
      writeFileSync(join(workspace, 'weights'), content);

      const begun = await lab.muster.request<SnapshotAccepted>('POST', `${path}/snapshots`);
      expect(begun.status).toBe(202);
      const snapshotPath = `/api/v1/snapshots/${begun.body.snapshot.id}`;
      const show = async () => (await lab.muster.request<Snapshot>('GET', snapshotPath)).body;
      await waitFor(async () => (await show()).takenAt !== null, BOUND_MS, 'it is taken');
      await lab.muster.kill('SIGKILL');
      await lab.muster.start();
      await waitFor(async () => ['verified', 'failed'].includes((await show()).status), BOUND_MS, 'it is read back');
      expect(await show()).toMatchObject({ status: 'verified', files: 1, verifiedBytes: 20_000_000 });

      writeFileSync(join(workspace, 'weights'), 'spoilt');
      const restore = await lab.muster.request<{ operation: { id: string } }>('POST', `${path}/restore`);
      const operationPath = `/api/v1/operations/${restore.body.operation.id}`;
      const status = async () => (await lab.muster.request<{ status: string }>('GET', operationPath)).body.status;
      await waitFor(async () => !['queued', 'running'].includes(await status()), BOUND_MS, 'it is restored');
      expect(await status()).toBe('succeeded');
      expect(readFileSync(join(workspace, 'weights')).equals(content)).toBe(true);

      const shown = (await lab.muster.request<Workspace>('GET', `${path}/workspace`)).body;
      expect(shown).toMatchObject({ epoch: 1, store: 'file', lastVerifiedSnapshotId: begun.body.snapshot.id });
      expect(shown.storedBytes).toBeGreaterThan(20_000_000);
    },
    BOUND_MS,
  );
});
