import { randomBytes } from 'node:crypto';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createClusterTokens } from '../../../automation/clusters/cloud-token.ts';
import { createKubernetesReader } from '../../../automation/clusters/kubernetes-reader.ts';
import { createCheckClustersCron, type CheckClustersOptions } from '../../../automation/cron/check-clusters.ts';
import {
  findCluster,
  findClusterAccess,
  findClusterFacts,
  insertCluster,
  newClusterId,
  saveClusterAccess,
  setClusterStatus,
  type ClusterRow,
} from '../../../db/clusters.ts';
import { inTransaction } from '../../../db/database.ts';
import { parseKubeconfig, type ClusterAccess } from '../../../domain/clusters/kubeconfig.ts';
import { makeEksGpuNode, makeSystemNode } from '../../../sandbox/kubernetes-api/nodes.ts';
import {
  makeCluster,
  startKubernetesApi,
  type KubernetesApi,
  type SimulatedCluster,
} from '../../../sandbox/kubernetes-api/server.ts';
import { sealAccess } from '../../../secrets/cluster-access.ts';
import { createEnvelope } from '../../../secrets/envelope.ts';
import { ACTOR, createFleetDatabase, type FleetDatabase } from '../../support/fleet-database.ts';

let api: KubernetesApi;
let fleet: FleetDatabase;
let options: CheckClustersOptions;
let simulated: SimulatedCluster;
let id: string;
let now: number;
beforeAll(async () => {
  api = await startKubernetesApi();
  fleet = await createFleetDatabase({ poolSize: 6 });
});
afterAll(async () => {
  await fleet.close();
  await api.stop();
});
beforeEach(async () => {
  now = Date.now();
  simulated = makeCluster({ nodes: [makeSystemNode('sys'), makeEksGpuNode('gpu')] });
  const clock = () => new Date((now += 1000));
  options = {
    db: fleet.db,
    envelope: createEnvelope(randomBytes(32)),
    kubernetes: createKubernetesReader(1_000),
    clusterTokens: createClusterTokens({ aws: null, azure: null, sandboxToken: 'sandbox' }, clock),
    now: clock,
    log: pino({ level: 'silent' }),
    dueAfterMs: -3_600_000,
  };
  id = await make('c');
});
afterEach(async () => {
  await fleet.db.deleteFrom('clusters').execute();
});

/** As a stack of ours leaves it: reached by a token of its cloud. */
async function make(name: string): Promise<string> {
  api.clusters.set(name, simulated);
  const clusterId = newClusterId();
  await inTransaction(fleet.db, async (tx) => {
    await insertCluster(tx, {
      id: clusterId,
      orgId: fleet.orgId,
      kind: 'registered',
      name,
      stackId: null,
      region: null,
      createdBy: ACTOR.id,
    });
    await setClusterStatus(tx, clusterId, 'available');
    const { access } = parseKubeconfig(JSON.parse(api.kubeconfigOf(name)), 'kubeconfig') as { access: ClusterAccess };
    const cloud: ClusterAccess = { ...access, credential: { kind: 'cloud', cloud: 'eks' } };
    await saveClusterAccess(tx, clusterId, {
      sealed: sealAccess(options.envelope, clusterId, cloud),
      endpoint: access.server,
    });
  });
  return clusterId;
}

const look = () => createCheckClustersCron(options).run(new AbortController().signal);
const row = async () => (await findCluster(fleet.db, null, id)) as ClusterRow;

describe('looking at clusters', () => {
  it('records how they do and what they have, changing nothing the second time', async () => {
    expect(await look()).toMatchObject({ looked: 1, available: 1, failed: 0 });
    const first = await row();
    expect(first).toMatchObject({
      status: 'available',
      reason: null,
      summary: { total: 2 },
      namespace_uid: simulated.namespaceUid,
    });
    expect((await findClusterFacts(fleet.db, id))?.nodes.map((node) => node.name)).toEqual(['gpu', 'sys']);
    await look();
    const { checked_at: _checked, answered_at: _answered, ...again } = await row();
    expect(first).toMatchObject(again);
  });

  it('goes worse after three looks and better after two, telling why and how far it is', async () => {
    await look();
    simulated.fault = { kind: 'down' };
    await look();
    await look();
    expect(await row()).toMatchObject({
      status: 'available',
      reason: expect.stringMatching(/does not answer/) as string,
      streak: { direction: 'worse', count: 2, health: 'unavailable' },
    });
    await look();
    expect(await row()).toMatchObject({ status: 'unavailable', streak: null });
    // What was read before stays to be seen.
    expect((await findClusterFacts(fleet.db, id))?.nodes).toHaveLength(2);
    simulated.fault = null;
    await look();
    expect((await row()).status).toBe('unavailable');
    await look();
    expect(await row()).toMatchObject({ status: 'available', reason: null });
  });

  it('is degraded by nodes that are not ready', async () => {
    simulated.nodes = [makeSystemNode('sys'), makeEksGpuNode('gpu', { isReady: false })];
    for (let count = 0; count < 3; count++) await look();
    expect(await row()).toMatchObject({
      status: 'degraded',
      reason: '1 of 2 nodes not ready (gpu)',
      summary: { ready: 1 },
    });
  });

  it('does not believe another cluster at the same address', async () => {
    await look();
    simulated.namespaceUid = 'another';
    await look();
    expect(await row()).toMatchObject({
      reason: 'another cluster answers at its address',
      streak: { health: 'unavailable' },
    });
  });

  it('keeps the token of a cloud while it lasts, sealed', async () => {
    await look();
    const first = await findClusterAccess(fleet.db, id);
    expect(first?.token_sealed).toMatch(/^v1\./);
    await look();
    expect((await findClusterAccess(fleet.db, id))?.token_sealed).toBe(first?.token_sealed);
    now += 11 * 60_000;
    await look();
    expect((await findClusterAccess(fleet.db, id))?.token_sealed).not.toBe(first?.token_sealed);
  });

  it('drops a look that a destroy has overtaken', async () => {
    const overtaking = {
      ...options.kubernetes,
      read: async (...args: Parameters<typeof options.kubernetes.read>) => {
        const reading = await options.kubernetes.read(...args);
        await inTransaction(fleet.db, (tx) => setClusterStatus(tx, id, 'destroyed'));
        return reading;
      },
    };
    const cron = createCheckClustersCron({ ...options, kubernetes: overtaking });
    expect(await cron.run(new AbortController().signal)).toMatchObject({ overtaken: 1 });
    expect(await row()).toMatchObject({ status: 'destroyed' });
    expect(await findClusterFacts(fleet.db, id)).toBeUndefined();
  });

  it('by two replicas at once records one of the looks', async () => {
    await look();
    const both = await Promise.all([look(), look()]);
    expect(both.map((counts) => counts['failed'])).toEqual([0, 0]);
    expect(both.reduce((sum, counts) => sum + Number(counts['available'] ?? 0), 0)).toBeGreaterThan(0);
  });

  it('of one that cannot be opened fails alone', async () => {
    const other = await make('other');
    simulated.namespaceUid = 'x';
    await fleet.db
      .updateTable('cluster_access')
      .set({ access_sealed: 'broken' })
      .where('cluster_id', '=', other)
      .execute();
    expect(await look()).toMatchObject({ looked: 1, failed: 1 });
  });

  it('has nothing to do where all were looked at a moment ago', async () => {
    await look();
    expect(await createCheckClustersCron({ ...options, dueAfterMs: 3_600_000 }).hasWork?.()).toBe(false);
    expect(await createCheckClustersCron(options).hasWork?.()).toBe(true);
  });

  it('tells webhooks of each change of status once', async () => {
    await fleet.db
      .insertInto('webhooks')
      .values({
        id: 'whk_aaaaaaaaaaaaaaaa',
        org_id: fleet.orgId,
        url: 'https://hook.test',
        description: null,
        events: ['cluster.unavailable', 'cluster.available'],
        secret_sealed: 'x',
        created_by: ACTOR.id,
      } as never)
      .execute();
    simulated.fault = { kind: 'down' };
    for (let count = 0; count < 4; count++) await look();
    const told = await fleet.db.selectFrom('webhook_deliveries').selectAll().orderBy('seq').execute();
    expect(told.map((one) => [one.type, one.object_id])).toEqual([['cluster.unavailable', id]]);
    expect(told[0]?.data).toMatchObject({ status: 'unavailable', previousStatus: 'available', name: 'c' });
    await fleet.db.deleteFrom('webhooks').execute();
  });
});
