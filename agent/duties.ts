/**
 * What the agent does for its node besides reporting: it runs the pods that the node shall run and carries out orders. A node that is
 * fenced, or cut off for so long that it switches itself off, does neither, and may not write what outlives the machine; so does one that
 * was before it, or its machine, was started again, until the control plane says otherwise.
 */
import type { DesiredReply, HeartbeatBody } from '../api/contract/nodes.ts';
import type { Orders } from './orders.ts';
import type { WriteAccess } from './write-access.ts';

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
  writes: WriteAccess;
  log: (message: string) => void;
}

const PATIENCE_MS = 30_000;

export function createDuties({ pods, orders, writes, log }: DutyParts): Duties {
  let revision = -1;
  let isFenced = writes.taken !== null;
  let isAbandoned = false;
  /** Nothing is begun: from the first moment of letting go until write access was given back. */
  let isHeld = isFenced;
  let last: DesiredReply | null = null;
  /** Letting go and taking up again, one after another. */
  let turn: Promise<void> = Promise.resolve();

  /** Remembers, ends what is under way with its credentials, and then locks what it could have written. */
  function letGo(code: string, reason: string): Promise<void> {
    isHeld = true;
    writes.take(reason);
    // What is still to be done is told again by whoever lifts it; its secrets end here.
    if (last !== null) last = { ...last, orders: null };
    const ended = [orders.stopAll(code, reason), pods?.stopAll(reason)].map(patiently);
    turn = turn.then(() => Promise.all(ended)).then(() => patiently(writes.lock()));
    return turn;
  }

  function takeUp(): void {
    turn = turn.then(async () => {
      if (isFenced || isAbandoned) return;
      await patiently(writes.give());
      if (isFenced || isAbandoned) return;
      isHeld = false;
      orders.resume();
      obey();
    });
  }

  /** Never throws, and never takes longer than it may: the next step is worth more than this one. */
  async function patiently(step: Promise<void> | undefined): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<void>((resolve) => (timer = setTimeout(resolve, PATIENCE_MS)));
    await Promise.race([step, limit]).catch((error: unknown) =>
      log(`letting go failed: ${error instanceof Error ? error.message : String(error)}`),
    );
    clearTimeout(timer);
  }

  function obey(): void {
    if (last === null || isHeld) return;
    if (last.pods !== null) pods?.apply(last.pods);
    if (last.orders !== null) orders.apply(last.orders);
  }

  if (writes.taken !== null) {
    log(`this node begins without write access (${writes.taken}) until the control plane says otherwise`);
    void letGo('fenced', writes.taken);
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
        takeUp();
      }
    },
    async abandon(reason) {
      if (isAbandoned) return;
      isAbandoned = true;
      await letGo('abandoned', reason);
    },
  };
}
