/**
 * The keep-snapshots cron: hands snapshots that need not be kept to the operation that deletes them. domain/snapshots/retention.ts decides;
 * what is left of a destroyed instance goes after a while.
 */
import { chooseExpired } from '../../domain/snapshots/retention.ts';
import { beginDeletion, resumeDeletion } from '../../db/accept-snapshot.ts';
import { inTransaction, type Db } from '../../db/database.ts';
import type { Queue } from '../../db/queue.ts';
import {
  hasUnfinishedDeletion,
  listKeptWorkspaces,
  listRetained,
  type KeptWorkspace,
} from '../../db/snapshot-schedules.ts';
import type { Cron } from './scheduler.ts';

/** Time to notice that an instance was destroyed by mistake. */
export const KEPT_AFTER_DESTROY_MS = 7 * 86_400_000;

export function createKeepSnapshotsCron(db: Db, queue: Queue, now: () => Date, everyMs = 10 * 60_000): Cron {
  function keep({ instanceId, keep: policy, destroyedForMs }: KeptWorkspace): Promise<boolean> {
    return inTransaction(db, async (tx) => {
      const retained = await listRetained(tx, instanceId);
      const isOver = destroyedForMs !== null && destroyedForMs > KEPT_AFTER_DESTROY_MS;
      const snapshotIds = isOver ? retained.map(({ id }) => id) : chooseExpired(retained, policy, now());
      const begun = snapshotIds.length > 0 && (await beginDeletion(tx, queue, { instanceId, snapshotIds })) !== null;
      if (!begun && (await hasUnfinishedDeletion(tx, instanceId))) await resumeDeletion(tx, queue, instanceId);
      return begun;
    });
  }

  return {
    name: 'keep-snapshots',
    everyMs,
    async run() {
      const counts = { workspaces: 0, deletions: 0 };
      for (const workspace of await listKeptWorkspaces(db)) {
        counts.workspaces++;
        if (await keep(workspace)) counts.deletions++;
      }
      await db
        .deleteFrom('repository_tokens')
        .where('expires_at', '<', new Date(now().getTime() - 86_400_000))
        .execute();
      return counts;
    },
  };
}
