/**
 * The agent's orders: each is given to the handler of its kind, one of a kind at a time, and remembered on disk before it starts, so that
 * nothing is done twice: what ran when the agent was restarted is reported as failed, unless its handler may do it again. What ended is
 * kept and told until the control plane has it. Secrets of an order are never written.
 */
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Order, OrderReport } from '../api/contract/orders.ts';
import { readJson, writePrivately } from './private-file.ts';

export interface OrderContext {
  /** Aborted when the order is not wanted any more, its deadline passes, the node is fenced, or the agent stops. */
  signal: AbortSignal;
  progress(progress: { percent: number | null; note: string | null }): void;
  log(message: string): void;
}

/** Resolves with a result that JSON can hold (16 KiB at most). Throws OrderError, or anything, which is `failed`. */
export interface OrderHandler {
  (order: Order, context: OrderContext): Promise<unknown>;
  /** It may be started again after the agent was: it finds out itself what is done already. @default false */
  isRepeatable?: boolean;
}

/** A failure with a code that the control plane acts upon. Its detail is shown to people: no secrets. */
export class OrderError extends Error {
  readonly code: string;

  constructor(code: string, detail: string) {
    super(detail);
    this.name = 'OrderError';
    this.code = code;
  }
}

export interface Orders {
  /** All that shall be done: what is new is started, what is not there any more is stopped. */
  apply(wanted: readonly Order[]): void;
  /** Of those that run, and of those that ended and are not acknowledged. */
  reports(): OrderReport[];
  acknowledge(orderIds: readonly string[]): void;
  /** Stops all and starts none until `resume`; resolves when all have ended. */
  stopAll(code: string, detail: string): Promise<void>;
  resume(): void;
}

export interface OrderParts {
  /** Where they are remembered. */
  directory: string;
  handlers: Readonly<Record<string, OrderHandler>>;
  /** Something began or ended (`isUrgent`), or went on: tell it soon. */
  changed: (isUrgent: boolean) => void;
  log: (message: string) => void;
}

const MAX_RESULT = 16_384;
const MAX_DETAIL = 2_000;
const MAX_NOTE = 200;
/** Ended ones that are known to be acknowledged: an older answer may still list them. */
const MAX_FORGOTTEN = 1_000;

interface Running {
  order: Order;
  abort: AbortController;
  report: OrderReport;
  ended: Promise<void>;
}

export function createOrders(parts: OrderParts): Orders {
  const { handlers, changed, log } = parts;
  const memory = createMemory(parts);
  const running = new Map<string, Running>();
  const ended = new Map<string, OrderReport>(memory.recall());
  const forgotten = new Set<string>();
  let waiting: Order[] = [];
  let stopped: OrderError | null = null;

  function startDue(): void {
    if (stopped !== null) return;
    const busy = new Set([...running.values()].map(({ order }) => order.kind));
    for (const order of waiting) {
      if (busy.has(order.kind)) continue;
      busy.add(order.kind);
      start(order);
    }
    waiting = waiting.filter(({ id }) => !running.has(id) && !ended.has(id));
  }

  function start(order: Order): void {
    const abort = new AbortController();
    const report: OrderReport = { orderId: order.id, status: 'running' };
    const remembered = memory.begin(order);
    if (remembered !== null) return end(order, remembered);
    const work = run(order, report, abort)
      .then((last) => {
        running.delete(order.id);
        end(order, last);
      })
      .finally(startDue);
    running.set(order.id, { order, abort, report, ended: work });
    log(`order ${order.id} (${order.kind}) begins`);
    changed(true);
  }

  function end(order: Order, report: OrderReport): void {
    ended.set(order.id, report);
    memory.end(order, report);
    const { error } = report;
    log(`order ${order.id} (${order.kind}) ${report.status}${error ? `: ${error.code}: ${error.detail}` : ''}`);
    changed(true);
  }

  /** Never throws. */
  async function run(order: Order, report: OrderReport, abort: AbortController): Promise<OrderReport> {
    const handler = handlers[order.kind];
    const deadline = setTimeout(
      () => abort.abort(new OrderError('deadline_passed', 'it did not end in time')),
      Math.min(order.remainingMs, 2 ** 31 - 1),
    );
    try {
      if (!handler) throw new OrderError('unknown_kind', `this agent knows no order of the kind ${order.kind}`);
      const result = await handler(order, {
        signal: abort.signal,
        progress(progress) {
          const percent = progress.percent === null ? null : Math.min(100, Math.max(0, progress.percent));
          report.progress = { percent, note: progress.note?.slice(0, MAX_NOTE) ?? null };
          changed(false);
        },
        log: (message) => log(`order ${order.id}: ${message}`),
      });
      if (result !== undefined && JSON.stringify(result).length > MAX_RESULT)
        throw new OrderError('result_too_large', `its result is larger than ${MAX_RESULT} characters`);
      return { ...report, status: 'done', ...(result === undefined ? {} : { result }) };
    } catch (error) {
      return { ...report, status: 'failed', error: describe(abort.signal.aborted ? abort.signal.reason : error) };
    } finally {
      clearTimeout(deadline);
    }
  }

  return {
    apply(wanted) {
      const ids = new Set(wanted.map(({ id }) => id));
      for (const { order, abort } of running.values())
        if (!ids.has(order.id)) abort.abort(new OrderError('canceled', 'it is not wanted any more'));
      waiting = wanted.filter(({ id }) => !running.has(id) && !ended.has(id) && !forgotten.has(id));
      startDue();
    },
    reports: () => [...[...running.values()].map(({ report }) => ({ ...report })), ...ended.values()].slice(0, 100),
    acknowledge(orderIds) {
      for (const id of orderIds) {
        if (!ended.delete(id)) continue;
        memory.forget(id);
        forgotten.add(id);
        const [oldest] = forgotten;
        if (forgotten.size > MAX_FORGOTTEN && oldest !== undefined) forgotten.delete(oldest);
      }
    },
    async stopAll(code, detail) {
      stopped = new OrderError(code, detail);
      waiting = [];
      for (const { abort } of running.values()) abort.abort(stopped);
      await Promise.all([...running.values()].map((one) => one.ended));
    },
    resume() {
      stopped = null;
    },
  };
}

interface Remembered {
  kind: string;
  report: OrderReport;
}

/** What was begun and what ended, as a file each. */
function createMemory({ directory, handlers, log }: OrderParts) {
  const folder = join(directory, 'orders');
  const fileOf = (id: string) => join(folder, `${id}.json`);
  const keep = (order: Order, report: OrderReport) =>
    writePrivately(fileOf(order.id), JSON.stringify({ kind: order.kind, report } satisfies Remembered));
  return {
    /** Of an earlier life of the agent. */
    recall(): [string, OrderReport][] {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      return readdirSync(folder).flatMap((name): [string, OrderReport][] => {
        const id = /^(ord_[a-z2-7]{16})\.json$/.exec(name)?.[1];
        const found = id === undefined ? null : (readJson(join(folder, name)) as Remembered | null);
        if (id === undefined || found === null) {
          rmSync(join(folder, name), { force: true });
          return [];
        }
        if (found.report.status !== 'running') return [[id, found.report]];
        if (handlers[found.kind]?.isRepeatable === true) return [];
        const error = { code: 'agent_restarted', detail: 'the agent was restarted while it did it' };
        return [[id, { ...found.report, status: 'failed', error }]];
      });
    },
    /** null: go ahead. What cannot be remembered is not begun. */
    begin(order: Order): OrderReport | null {
      try {
        keep(order, { orderId: order.id, status: 'running' });
        return null;
      } catch (error) {
        return {
          orderId: order.id,
          status: 'failed',
          error: { code: 'not_remembered', detail: describe(error).detail },
        };
      }
    },
    end(order: Order, report: OrderReport): void {
      try {
        keep(order, report);
      } catch (error) {
        log(`the end of ${order.id} could not be kept (${describe(error).detail})`);
      }
    },
    forget: (id: string) => rmSync(fileOf(id), { force: true }),
  };
}

function describe(error: unknown): { code: string; detail: string } {
  const detail = error instanceof Error ? error.message : String(error);
  return { code: error instanceof OrderError ? error.code : 'failed', detail: detail.slice(0, MAX_DETAIL) };
}
