/**
 * Kinds `stop_cluster` and `start_cluster`, target `cluster`: the whole of an AKS cluster, by Azure's own actions. Asked again until Azure says
 * that it is so; a step that dies anywhere begins by looking. No engine runs, and none may while it is stopped.
 */
import type { ClusterPower } from '../../domain/clusters/cluster.ts';
import { LEASE_MS } from '../../domain/operation.ts';
import { findCluster, setClusterStatus, type ClusterRow } from '../../db/clusters.ts';
import { retryWhileAway, type Tx } from '../../db/database.ts';
import { saveProgress, withClaim } from '../../db/operations.ts';
import { saveHoldings } from '../../db/stack-holdings.ts';
import { findStack, type StackRow } from '../../db/stacks.ts';
import type { AzureManagement, ManagedCluster } from '../clusters/azure-management.ts';
import { ClusterTrouble } from '../clusters/cluster-trouble.ts';
import type { StepContext, StepResult } from './step.ts';

/** Soon at first, then the more rarely the longer it takes. */
const LOOK_AGAIN_MS = { least: 1_000, most: 15_000 };
/** Azure says about ten minutes. */
const PATIENCE_MS = 90 * 60_000;
const IS_AT_REST = /^(succeeded|failed|canceled)$/i;

interface Progress {
  /** Azure has taken it: what it says afterwards is the answer to it. */
  isTaken?: boolean;
}

export async function switchPower(context: StepContext): Promise<StepResult> {
  const { operation, db } = context;
  const to: ClusterPower = operation.kind === 'stop_cluster' ? 'stopped' : 'running';
  const cluster = await findCluster(db, null, operation.target_id);
  const stack = cluster?.stack_id ? await findStack(db, null, cluster.stack_id) : undefined;
  if (!cluster || !stack || cluster.status === 'destroyed') return { kind: 'done', note: 'the cluster is gone' };
  try {
    const { clusterId } = stack.outputs ?? {};
    if (!context.azure) throw new ClusterTrouble('no_token', 'there are no credentials for Azure');
    if (typeof clusterId !== 'string')
      throw new ClusterTrouble('no_kubernetes', 'it was not made whole yet: up its stack');
    return await approach(context, context.azure, { cluster, stack, armId: clusterId, to });
  } catch (error) {
    if (!(error instanceof ClusterTrouble)) throw error;
    if (error.kind === 'unreachable') return { kind: 'retry', afterMs: 0, note: error.message };
    return fail(context, cluster, to, error.message);
  }
}

interface Wish {
  cluster: ClusterRow;
  stack: StackRow;
  armId: string;
  to: ClusterPower;
}

async function approach(context: StepContext, azure: AzureManagement, wish: Wish): Promise<StepResult> {
  const { cluster, stack, armId, to } = wish;
  const { isTaken = false } = context.operation.state as Progress;
  const seen = await azure.readCluster(armId);
  if (seen === null) return fail(context, cluster, to, 'Azure has no such cluster any more: refresh its stack');
  if (!IS_AT_REST.test(seen.provisioningState)) return wait(context, describe(seen));
  if (seen.power === to) {
    const state = await context.runner.readState(stack.name);
    await record(context, async (tx) => {
      await setClusterStatus(tx, cluster.id, to === 'stopped' ? 'stopped' : 'creating');
      await saveHoldings(tx, stack.name, state);
    });
    return { kind: 'done', note: to === 'stopped' ? 'it is stopped and costs nothing' : 'it runs' };
  }
  if (isTaken) return fail(context, cluster, to, `Azure did not get it ${to}: its state is ${seen.provisioningState}`);
  if (elapsedMs(context) > PATIENCE_MS) return fail(context, cluster, to, 'Azure was busy all the time');
  const answer = await azure.switchPower(armId, to);
  if (answer !== 'taken') return wait(context, `Azure is busy with it: ${answer.busy}`);
  await record(context, async (tx) => {
    await saveProgress(tx, context.claim, { state: { isTaken: true } satisfies Progress });
    // From now on it does not answer, and that is no news of its health.
    if (to === 'stopped') await setClusterStatus(tx, cluster.id, 'stopped');
  });
  return wait(context, to === 'stopped' ? 'Azure is stopping it' : 'Azure is starting it');
}

/** A stop that failed leaves it running as far as anybody knows: the next look says how it does. */
async function fail(context: StepContext, cluster: ClusterRow, to: ClusterPower, detail: string): Promise<StepResult> {
  const { isTaken = false } = context.operation.state as Progress;
  if (isTaken && to === 'stopped') await record(context, (tx) => setClusterStatus(tx, cluster.id, 'creating'));
  return { kind: 'fail', error: { code: 'cluster_refused', detail } };
}

function wait(context: StepContext, note: string): StepResult {
  const pauseMs = Math.min(LOOK_AGAIN_MS.most, Math.max(LOOK_AGAIN_MS.least, elapsedMs(context) / 10));
  return { kind: 'wait', until: new Date(context.now().getTime() + pauseMs), note };
}

function elapsedMs({ operation, now }: StepContext): number {
  return now().getTime() - (operation.started_at ?? now()).getTime();
}

function describe({ provisioningState }: ManagedCluster): string {
  return `Azure says ${provisioningState}`;
}

function record(context: StepContext, write: (tx: Tx) => Promise<void>): Promise<void> {
  return retryWhileAway(() => withClaim(context.db, context.claim, write), LEASE_MS);
}
