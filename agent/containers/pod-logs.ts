/**
 * The log of a pod to whoever asked for it: read from the engine as it is taken, never further ahead than one batch. The order is done when
 * the reading has begun; it ends with the log, or when the control plane says that nobody reads it any more.
 */
import type { IncomingMessage } from 'node:http';
import type { LogBatch, LogBatchReply } from '../../api/contract/pods.ts';
import { OrderError, type OrderHandler } from '../orders.ts';
import type { Engine } from './engine.ts';
import type { NodePods } from './pods.ts';

type Line = LogBatch['lines'][number];

export interface PodLogParts {
  engine: Engine;
  pods: Pick<NodePods, 'containerOf'>;
  send: (batch: LogBatch) => Promise<LogBatchReply>;
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
}

const MAX_STREAMS = 16;
const MAX_LINES = 500;
const MAX_CHARS = 200_000;
const MAX_LINE = 16_000;
/** What came is sent after it, so that a chatty log is not a call for each line. */
const GATHER_MS = 100;
/** So that a silent log learns that nobody reads it any more. */
const STILL_THERE_MS = 10_000;
const SEND_TRIES = 5;

export function createPodLogOrder(parts: PodLogParts): OrderHandler {
  let streams = 0;
  return async (order) => {
    const { podId, follow, since, tail } = order.input as {
      podId: string;
      follow: boolean;
      since: string | null;
      tail: number;
    };
    if (streams >= MAX_STREAMS)
      throw new OrderError('too_many_streams', `${MAX_STREAMS} logs are being read on this node already`);
    const sender = createSender(parts, order.id);
    streams += 1;
    // Not awaited: other orders of this kind may begin meanwhile.
    void carry(parts, sender, { podId, follow, since, tail })
      .catch(() => {}) // nobody can be told any more
      .finally(() => {
        streams -= 1;
      });
    return undefined;
  };
}

interface Sender {
  /** Resolves when they are taken. @returns whether more is wanted. Throws where they could not be sent */
  send(lines: Line[], end?: { error: string | null }): Promise<boolean>;
}

function createSender({ send, sleep }: PodLogParts, orderId: string): Sender {
  let seq = 0;
  return {
    async send(lines, end) {
      const batch = { orderId, seq: seq++, lines, isEnd: end !== undefined, error: end?.error ?? null };
      const never = new AbortController().signal;
      for (let tries = 1; ;) {
        try {
          const reply = await send(batch);
          if (reply.isTaken || !reply.isWanted) return reply.isWanted;
        } catch (error) {
          if (tries++ >= SEND_TRIES) throw error;
          await sleep(1_000, never);
        }
      }
    },
  };
}

async function carry(
  { engine, pods }: PodLogParts,
  sender: Sender,
  wish: { podId: string; follow: boolean; since: string | null; tail: number },
): Promise<void> {
  let response: IncomingMessage | null = null;
  try {
    const container = await pods.containerOf(wish.podId);
    if (container === undefined || container.isNew) {
      await sender.send([], { error: 'it has no container on its node yet' });
      return;
    }
    const query = new URLSearchParams({
      stdout: '1',
      stderr: '1',
      timestamps: '1',
      follow: wish.follow ? '1' : '0',
      tail: String(wish.tail),
      ...(wish.since === null ? {} : { since: toSeconds(wish.since) }),
    });
    response = await engine.open('GET', `/containers/${container.id}/logs?${query.toString()}`);
  } catch (error) {
    await sender.send([], { error: (error instanceof Error ? error.message : String(error)).slice(0, 300) });
    return;
  }
  try {
    await pour(response, sender, wish.since);
  } finally {
    response.destroy();
  }
}

/** Reads no further while what was read is not taken. */
async function pour(response: IncomingMessage, sender: Sender, since: string | null): Promise<void> {
  const lines = createLines(since);
  if (!(await sender.send([]))) return; // we are here: whoever reads knows that it has begun
  const parts = response[Symbol.asyncIterator]();
  let next = nextOf(parts);
  let isOver = false;
  let broken: string | null = null;
  while (!isOver) {
    const until = performance.now() + STILL_THERE_MS;
    let gatherUntil = Infinity;
    while (!isOver && performance.now() < Math.min(until, gatherUntil) && !lines.isFull()) {
      const came = await orAfter(next, Math.min(until, gatherUntil) - performance.now()).catch((error: unknown) => {
        broken = `the engine broke it off (${error instanceof Error ? error.message : String(error)})`.slice(0, 300);
        return { done: true as const, value: undefined };
      });
      if (came === null) break;
      if (came.done === true) isOver = true;
      else {
        lines.add(came.value as Buffer);
        next = nextOf(parts);
        gatherUntil = Math.min(gatherUntil, performance.now() + GATHER_MS);
      }
    }
    if (isOver) lines.finish();
    do {
      if (!(await sender.send(lines.take()))) return;
    } while (lines.isFull() || (isOver && lines.hasSome()));
  }
  await sender.send([], { error: broken });
}

/** One that nobody waits for any more may fail. */
function nextOf(parts: AsyncIterator<unknown>): Promise<IteratorResult<unknown>> {
  const next = parts.next();
  next.catch(() => {});
  return next;
}

/** null: nothing came within the time. */
function orAfter<T>(promise: Promise<T>, ms: number): Promise<T | null> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(null), Math.max(0, ms));
    promise.then(
      (value) => {
        clearTimeout(timer);
        resolve(value);
      },
      (error: unknown) => {
        clearTimeout(timer);
        reject(error instanceof Error ? error : new Error(String(error)));
      },
    );
  });
}

const HEADER = 8;

/** Frames of the engine (a byte of the stream, four of the length) to lines: a line may come in several, and a frame have several. */
export function createLines(since: string | null) {
  let rest: Buffer = Buffer.alloc(0);
  const open = { stdout: '', stderr: '' };
  const ready: Line[] = [];
  let chars = 0;

  function addText(stream: Line['stream'], text: string): void {
    const parts = (open[stream] + text).split('\n');
    open[stream] = (parts.pop() ?? '').slice(0, 4 * MAX_LINE);
    for (const part of parts) addLine(stream, part);
    if (open[stream].length >= MAX_LINE + 64) {
      addLine(stream, open[stream]);
      open[stream] = '';
    }
  }

  function addLine(stream: Line['stream'], raw: string): void {
    const [, at, text = ''] = /^(\d{4}-\d\d-\d\dT[\d:]{8}(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) ?([^]*)$/.exec(raw) ?? [];
    if (at === undefined) return;
    const time = toUtc(at);
    if (since !== null && !isAfter(time, since)) return;
    const cut = text.replace(/\r$/, '').slice(0, MAX_LINE);
    ready.push({ at: time, stream, text: cut });
    chars += cut.length;
  }

  return {
    add(part: Buffer): void {
      rest = rest.length === 0 ? part : Buffer.concat([rest, part]);
      while (rest.length >= HEADER) {
        const length = rest.readUInt32BE(4);
        if (rest.length < HEADER + length) return;
        addText(rest[0] === 2 ? 'stderr' : 'stdout', rest.subarray(HEADER, HEADER + length).toString('utf8'));
        rest = rest.subarray(HEADER + length);
      }
    },
    /** What has no end of line. */
    finish(): void {
      for (const stream of ['stdout', 'stderr'] as const) {
        if (open[stream] !== '') addLine(stream, open[stream]);
        open[stream] = '';
      }
    },
    take(): Line[] {
      let size = 0;
      let count = 0;
      while (count < ready.length && count < MAX_LINES && size < MAX_CHARS) size += ready[count++]?.text.length ?? 0;
      chars -= size;
      return ready.splice(0, count);
    },
    isFull: () => ready.length >= MAX_LINES || chars >= MAX_CHARS,
    hasSome: () => ready.length > 0,
  };
}

/** An engine that tells whole seconds only has several lines at one time: rather one twice than one lost. */
function isAfter(at: string, since: string): boolean {
  const isExact = since.includes('.');
  return isExact ? comparable(at) > comparable(since) : comparable(at) >= comparable(since);
}

/** The same number of digits, so that text sorts as time. */
function comparable(at: string): string {
  const [whole = '', fraction = ''] = at.replace('Z', '').split('.');
  return `${whole}.${fraction.padEnd(9, '0')}`;
}

function toUtc(at: string): string {
  if (at.endsWith('Z')) return at;
  const fraction = /\.(\d+)/.exec(at)?.[1];
  const whole = new Date(Date.parse(at.replace(/\.\d+/, ''))).toISOString().slice(0, 19);
  return `${whole}${fraction === undefined ? '' : `.${fraction}`}Z`;
}

/** As the engine takes a time: seconds with nine decimals. */
function toSeconds(at: string): string {
  const fraction = /\.(\d{1,9})/.exec(at)?.[1];
  const whole = Math.floor(Date.parse(at.replace(/\.\d+/, '')) / 1_000);
  return fraction === undefined ? String(whole) : `${whole}.${fraction.padEnd(9, '0')}`;
}
