/**
 * Fresh offers: before a plan is shown, listings that are too old are asked for again, by an operation, and waited for within bounds. The
 * plan then answers from the rows, whoever did not answer in time.
 */
import type { ProviderName } from '../domain/provider.ts';
import { isFinished } from '../domain/operation.ts';
import { readListingStates } from '../db/offer-listings.ts';
import { acceptOperation, findOperation } from '../db/operations.ts';
import type { ApiContext } from './api-deps.ts';
import type { Caller } from './caller.ts';

/** As long as the slowest vendor that still answers. */
const PATIENCE_MS = 30_000;
/** An operation that nobody takes for so long meets no worker: what is there has to do. */
const PICK_UP_MS = 3_000;
/** Answers are seen in the rows; the end of the operation rings. */
const LOOK_AGAIN_MS = 100;

/** @param providers that the request may buy from; empty: any */
export async function awaitFreshOffers(
  deps: ApiContext,
  caller: Pick<Caller, 'id'>,
  providers: readonly ProviderName[],
): Promise<void> {
  const patienceMs = deps.offerPatienceMs ?? PATIENCE_MS;
  const db = deps.database.kysely;
  if (patienceMs === 0) return;
  if ((await readListingStates(db, providers)).every(({ isFresh }) => isFresh)) return;
  const operation = await db.transaction().execute((tx) =>
    acceptOperation(tx, deps.queue, {
      orgId: null,
      kind: 'refresh_offers',
      targetKind: 'deployment',
      targetId: deps.deploymentId,
      stackId: null,
      deterministicKey: 'refresh_offers',
      createdBy: caller.id,
    }),
  );
  const startedAt = performance.now();
  let ring = () => {};
  const stop = deps.hub.subscribe(operation.id, () => ring());
  try {
    while (performance.now() - startedAt < patienceMs && !deps.hub.isClosed) {
      const { status } = (await findOperation(db, null, operation.id)) ?? { status: 'canceled' as const };
      // It may be finished and an answer still missing: the cron asked first, and its answer is waited for as well.
      const missing = (await readListingStates(db, providers)).filter(({ isFresh }) => !isFresh);
      if (missing.length === 0 || (isFinished(status) && !missing.some(({ isAsked }) => isAsked))) return;
      if (status === 'queued' && performance.now() - startedAt > PICK_UP_MS) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, LOOK_AGAIN_MS);
        ring = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  } finally {
    stop();
  }
}
