/**
 * What the agent does for its node besides reporting: it runs the pods that the node shall run and carries out orders. A node that is
 * fenced, or cut off for so long that it switches itself off, does neither, and lets go of everything that outlives the machine.
 */
import type { DesiredReply, HeartbeatBody } from '../api/contract/nodes.ts';
import type { Orders } from './orders.ts';

export type DesiredPods = NonNullable<DesiredReply['pods']>;
export type PodReports = NonNullable<HeartbeatBody['pods']>;

/** The pods of this node: agent/containers. */
export interface Pods {
  /** From now on these, and no others of ours. Returns at once. */
  apply(desired: DesiredPods): void;
  /** undefined: not known yet. */
  report(): PodReports | undefined;
  /** Resolves when none of ours runs; whatever was under way is given up. `apply` starts them again. */
  stopAll(reason: string): Promise<void>;
}

export interface Duties {
  apply(desired: DesiredReply): void;
  /** Idempotent. */
  fence(isFenced: boolean): void;
  /** For good: no pod, no order, no write from now on. Resolves when all have ended, or after a while. */
  abandon(reason: string): Promise<void>;
  readonly revision: number;
}

export interface DutyParts {
  pods: Pods | null;
  orders: Orders;
  /** Ends write access to what outlives the machine, such as credentials of snapshots. */
  endWrites: readonly ((reason: string) => Promise<void> | void)[];
  log: (message: string) => void;
}

const PATIENCE_MS = 30_000;

export function createDuties({ pods, orders, endWrites, log }: DutyParts): Duties {
  let revision = -1;
  let isFenced = false;
  let isAbandoned = false;
  let last: DesiredReply | null = null;

  async function letGo(code: string, reason: string): Promise<void> {
    const steps = [
      orders.stopAll(code, reason),
      pods?.stopAll(reason),
      ...endWrites.map(async (end) => end(reason)),
    ].map((step) =>
      Promise.resolve(step).catch((error: unknown) =>
        log(`letting go failed: ${error instanceof Error ? error.message : String(error)}`),
      ),
    );
    const patience = new AbortController();
    const limit = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, PATIENCE_MS);
      patience.signal.addEventListener('abort', () => clearTimeout(timer));
    });
    await Promise.race([Promise.all(steps), limit]);
    patience.abort();
  }

  function obey(): void {
    if (last === null || isFenced || isAbandoned) return;
    if (last.pods !== null) pods?.apply(last.pods);
    if (last.orders !== null) orders.apply(last.orders);
  }

  return {
    get revision() {
      return revision;
    },
    apply(desired) {
      if (isAbandoned) return;
      const { orders: wantedOrders, pods: wantedPods } = desired;
      revision = desired.revision;
      last = {
        ...desired,
        orders: wantedOrders ?? last?.orders ?? null,
        pods: wantedPods ?? last?.pods ?? null,
      };
      this.fence(desired.isFenced);
      if (wantedOrders !== null || wantedPods !== null) obey();
    },
    fence(next) {
      if (next === isFenced || isAbandoned) return;
      isFenced = next;
      if (next) {
        log('this node is fenced: it stops its pods and writes nothing that outlives the machine');
        void letGo('fenced', 'the node is fenced');
      } else {
        log('this node is no longer fenced');
        orders.resume();
        obey();
      }
    },
    async abandon(reason) {
      if (isAbandoned) return;
      isAbandoned = true;
      await letGo('abandoned', reason);
    },
  };
}
