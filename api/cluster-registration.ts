/** Registering a cluster, and replacing its kubeconfig: accepted as one operation, which connects, and waited for. */
import { MusterError } from '../domain/error-table.ts';
import { findCluster, insertCluster, newClusterId, saveClusterAccess, type ClusterRow } from '../db/clusters.ts';
import type { Tx } from '../db/database.ts';
import { acceptOperation } from '../db/operations.ts';
import { sealAccess } from '../secrets/cluster-access.ts';
import { awaitOperation, throwFailure } from './await-operation.ts';
import { accessOf, nameTaken } from './cluster-order.ts';
import { auditCluster, describeCluster, type ChangeCall } from './cluster-view.ts';
import type { ClusterAccepted, ClusterReply } from './contract/clusters.ts';
import { clusterReply } from './replies/cluster-reply.ts';
import { operationLocation, operationRefReply } from './replies/operation-reply.ts';
import type { Answer } from './route.ts';

/** A cluster that answers does so in about a second; one that does not is given up by the operation after this. */
const REGISTER_PATIENCE_MS = 30_000;

type Kubeconfig = string | Record<string, unknown>;

export async function registerCluster(call: ChangeCall, name: string, kubeconfig: Kubeconfig): Promise<Answer> {
  const access = accessOf(kubeconfig);
  const { caller, deps } = call;
  const answer = await call.once(async (tx) => {
    const row = await insertCluster(tx, {
      id: newClusterId(),
      orgId: caller.orgId,
      kind: 'registered',
      name,
      stackId: null,
      region: null,
      createdBy: caller.id,
    });
    if (row === null) throw nameTaken(name);
    await saveClusterAccess(tx, row.id, { sealed: sealAccess(deps.envelope, row.id, access), endpoint: access.server });
    return acceptRegistration(tx, call, { ...row, endpoint: access.server }, {});
  });
  return awaitRegistration(call, answer);
}

/** @param hold takes the cluster's row, or throws */
export async function replaceKubeconfig(
  call: ChangeCall,
  kubeconfig: Kubeconfig,
  hold: (tx: Tx) => Promise<ClusterRow>,
): Promise<Answer> {
  const access = accessOf(kubeconfig);
  const answer = await call.once(async (tx) => {
    const row = await hold(tx);
    if (row.kind !== 'registered')
      throw new MusterError('conflict', `the kubeconfig of ${row.name} comes from its stack`, {
        facts: { kind: row.kind },
      });
    return acceptRegistration(tx, call, row, { accessSealed: sealAccess(call.deps.envelope, row.id, access) });
  });
  return awaitRegistration(call, answer);
}

/** @param input `accessSealed`: what is to replace the present access once it has proved itself */
async function acceptRegistration(
  tx: Tx,
  call: ChangeCall,
  row: ClusterRow,
  input: { accessSealed?: string },
): Promise<Answer> {
  const operation = await acceptOperation(tx, call.deps.queue, {
    orgId: row.org_id,
    kind: 'register_cluster',
    targetKind: 'cluster',
    targetId: row.id,
    stackId: null,
    input,
    createdBy: call.caller.id,
  });
  await auditCluster(
    tx,
    call,
    row,
    input.accessSealed === undefined ? 'cluster.register' : 'cluster.replace_kubeconfig',
  );
  const body: ClusterAccepted = {
    operation: operationRefReply(operation),
    cluster: clusterReply(row, undefined, undefined),
  };
  return { status: 202, body, location: operationLocation(operation) };
}

/** Whoever registers wants to hear at once what is wrong; a replay waits for the same operation. */
async function awaitRegistration(call: Pick<ChangeCall, 'deps' | 'caller'>, answer: Answer): Promise<Answer> {
  const { operation, cluster: before } = answer.body as ClusterAccepted & { cluster: ClusterReply };
  const ended = await awaitOperation(call.deps, operation.id, REGISTER_PATIENCE_MS);
  throwFailure(ended);
  const db = call.deps.database.kysely;
  const row = await findCluster(db, call.caller.orgId, before.id);
  const body: ClusterAccepted = {
    operation: operationRefReply(ended),
    cluster: row ? await describeCluster(db, row) : before,
  };
  return { ...answer, body };
}
