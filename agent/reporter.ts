/** Tells the control plane at once what changed, beside the heartbeats. What it cannot tell, the next heartbeat does. */
import type { ReportsBody } from '../api/contract/nodes.ts';

export interface Reporter {
  /** Something ended or began (`isUrgent`), or went on. */
  changed(isUrgent: boolean): void;
  stop(): void;
}

/** Several ends within it are one call. */
const URGENT_MS = 50;
const PROGRESS_MS = 2_000;

/** @param compose null: nothing to tell, or nobody to tell it to @param send never throws */
export function createReporter(
  compose: () => ReportsBody | null,
  send: (body: ReportsBody) => Promise<void>,
): Reporter {
  let timer: NodeJS.Timeout | null = null;
  let dueAt = Infinity;
  let isStopped = false;

  async function flush(): Promise<void> {
    timer = null;
    dueAt = Infinity;
    const body = compose();
    if (body !== null) await send(body);
  }

  return {
    changed(isUrgent) {
      const at = performance.now() + (isUrgent ? URGENT_MS : PROGRESS_MS);
      if (isStopped || at >= dueAt) return;
      if (timer !== null) clearTimeout(timer);
      dueAt = at;
      timer = setTimeout(() => void flush(), at - performance.now());
    },
    stop() {
      isStopped = true;
      if (timer !== null) clearTimeout(timer);
    },
  };
}
