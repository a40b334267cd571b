/** A warm standby in a drill: real Muster, engine, agents and restic; the machines, Google's too, are simulated. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DrillReply, StandbyReply } from '../../api/contract/standbys.ts';
import { openMusterLab, type MusterLab } from '../support/muster-lab.ts';
import { waitFor } from '../support/muster-process.ts';
import { resticMissing } from '../support/restic.ts';

const BOUND_MS = 240_000;

let lab: MusterLab;
beforeAll(async () => {
  lab = await openMusterLab({
    clouds: 'none',
    // What is stored is searched for a secret below.
    hasOwnPostgres: true,
    env: {
      MUSTER_AGENT: 'on',
      MUSTER_AGENT_INTERVAL: '1 seconds',
      MUSTER_PROVIDERS: 'vastai',
      MUSTER_GCP_ENABLED: 'on',
    },
  });
}, BOUND_MS);
afterAll(() => lab?.close());

const get = async <T>(path: string) => (await lab.muster.request<T>('GET', `/api/v1${path}`)).body;
/** Of the machine with that beginning of a name. */
const workOn = (machine: string) => {
  const home = readdirSync(join(lab.dir, 'agents')).find((one) => one.startsWith(machine)) ?? 'none';
  return join(lab.dir, 'agents', home, 'workspace', 'work');
};

describe.skipIf(resticMissing !== null)('a warm standby', () => {
  it(
    'is kept in sync, takes over within seconds of a loss, and gives back what it had, as its drill shows',
    async () => {
      const order = {
        gpu: 'RTX 4090',
        maxPriceUsdPerHour: '0.95',
        strategy: 'coldstart',
        failover: { mode: 'standby', rpo: '60 seconds', cooldown: '0 seconds' },
      };
      const accepted = await lab.muster.request<{ instances: { id: string }[] }>('POST', '/api/v1/instances', order);
      const instanceId = accepted.body.instances[0]?.id as string;
      const instance = () => get<{ status: string; providerInstanceId: string }>(`/instances/${instanceId}`);
      await waitFor(async () => (await instance()).status === 'ready', BOUND_MS, 'ready');
      const first = await instance();
      mkdirSync(join(workOn(`vastai-${first.providerInstanceId}`), '..'), { recursive: true });
      writeFileSync(workOn(`vastai-${first.providerInstanceId}`), 'what was done so far');

      const made = await lab.muster.request<{ standby: StandbyReply }>('POST', '/api/v1/standby', {
        instanceId,
        name: 'stand',
        state: 'warm',
        rpo: '60 seconds',
        config: { project: 'a-project', zone: 'europe-west4-a', fallbackZone: 'europe-west4-b' },
      });
      expect(made.status).toBe(202);
      const { id, stackId } = made.body.standby;
      const standby = () => get<StandbyReply>(`/standby/${id}`);
      await waitFor(async () => (await standby()).synced.snapshotId !== null, BOUND_MS, 'it is in sync');
      expect(await standby()).toMatchObject({ status: 'warm', lag: { isBehind: false }, failure: null });
      expect(readFileSync(workOn('gcp-'), 'utf8')).toBe('what was done so far');

      const [machine] = lab.sandbox.clouds!.resources('Instance');
      const script = (machine!.properties['metadata'] as Record<string, string>)['startup-script'] as string;
      const token = /MUSTER_AGENT_TOKEN='([^']+)'/.exec(script)![1] as string;
      expect(
        JSON.stringify([await get(`/stacks/${stackId}/outputs`), await get(`/stacks/${stackId}/resources`)]),
      ).not.toContain(token);
      expect(findText(join(lab.dir, 'data'), token)).toEqual([]);

      const drilled = await lab.muster.request<{ drill: DrillReply }>('POST', '/api/v1/standby/drills', {
        standbyId: id,
      });
      expect(drilled.status).toBe(202);
      const drill = () => get<DrillReply>(`/standby/drills/${drilled.body.drill.id}`);
      await waitFor(async () => (await standby()).status === 'serving', BOUND_MS, 'it serves');
      expect(await get(`/instances/${instanceId}/endpoint`)).toMatchObject({
        kind: 'standby',
        nodeId: made.body.standby.nodeId,
      });
      expect(readFileSync(workOn('gcp-'), 'utf8')).toBe('what was done so far');
      writeFileSync(workOn('gcp-'), 'what the standby did');
      await waitFor(async () => (await drill()).status !== 'running', BOUND_MS, 'the drill is over');
      const over = await drill();
      expect(over).toMatchObject({ status: 'passed', failures: [] });
      const { detectionMs, rtoMs, rpoMs } = over.measures!;
      expect(detectionMs).toBeLessThan(20_000);
      expect(rtoMs! - detectionMs!).toBeLessThan(10_000);
      expect(rpoMs).toBeLessThan(60_000);

      const second = await instance();
      expect(second.providerInstanceId).not.toBe(first.providerInstanceId);
      expect(readFileSync(workOn(`vastai-${second.providerInstanceId}`), 'utf8')).toBe('what the standby did');
      expect(await get(`/instances/${instanceId}/endpoint`)).toMatchObject({ kind: 'instance' });
      await waitFor(async () => (await standby()).status === 'warm', BOUND_MS, 'it is at rest');

      const gone = await lab.muster.request('DELETE', `/api/v1/standby/${id}`);
      expect(gone.status).toBe(202);
      await waitFor(async () => (await standby()).status === 'destroyed', BOUND_MS, 'it is gone');
      expect(lab.agents.running().filter((key) => key.startsWith('gcp/'))).toEqual([]);
      expect(lab.sandbox.clouds!.resources('Instance')).toEqual([]);
    },
    BOUND_MS,
  );
});

/** Files below the folder in which the text stands. */
function findText(folder: string, text: string): string[] {
  try {
    return execFileSync('grep', ['-rlF', '--', text, folder], { encoding: 'utf8' }).trim().split('\n');
  } catch (error) {
    if ((error as { status?: number }).status === 1) return [];
    throw error;
  }
}
