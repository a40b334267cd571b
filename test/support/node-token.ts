/** A machine by our records that may carry an agent: an attempt that was bought, and the one-time token of its node. */
import { insertNodeToken } from '../../db/nodes.ts';
import { newId } from '../../db/new-id.ts';
import { hashAgentToken, makeAgentToken } from '../../secrets/agent-token.ts';
import { ORDER, type ApiServer } from './api-server.ts';

export interface MachineOnRecord {
  token: string;
  attemptId: string;
  instanceId: string;
}

/** Needs an offer on the market. Instances made before count as destroyed from now on, because few are allowed at once. */
export async function recordMachine(server: ApiServer): Promise<MachineOnRecord> {
  const { kysely } = server.database;
  await kysely.updateTable('instances').set({ status: 'destroyed' }).execute();
  const accepted = await server.call('POST', '/api/v1/instances', { body: ORDER });
  const instanceId = accepted.body.instances[0].id as string;
  const instance = await kysely
    .selectFrom('instances')
    .selectAll()
    .where('id', '=', instanceId)
    .executeTakeFirstOrThrow();
  const attemptId = newId('attempt');
  const token = makeAgentToken();
  await kysely
    .insertInto('attempts')
    .values({
      id: attemptId,
      org_id: instance.org_id,
      instance_id: instanceId,
      stack_id: instance.stack_id,
      provider: 'vastai',
      label: `label-${attemptId}`,
      status: 'bought',
      gpu: 'RTX 4090',
      gpu_count: 1,
      gpu_memory_gib: 24,
    })
    .execute();
  await kysely
    .transaction()
    .execute((tx) => insertNodeToken(tx, { tokenHash: hashAgentToken(token), attemptId, lifetimeMs: 3_600_000 }));
  return { token, attemptId, instanceId };
}
