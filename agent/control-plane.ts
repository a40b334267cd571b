/** The control plane as the agent sees it: a few calls over HTTP. What to do about their failures is not known here. */
import type { Agent, IncomingMessage, RequestOptions } from 'node:http';
import type { LogBatch, LogBatchReply } from '../api/contract/pods.ts';
import type {
  DesiredReply,
  HeartbeatBody,
  HeartbeatReply,
  RegisterBody,
  RegisterReply,
  ReportsBody,
  ReportsReply,
} from '../api/contract/nodes.ts';

/** `desiredRevision` null: an older control plane, which knows heartbeats and nothing else. */
export type HeartbeatAnswer = Omit<HeartbeatReply, 'desiredRevision'> & { desiredRevision: number | null };

/** Each call throws CallError. */
export interface ControlPlane {
  register(token: string, body: RegisterBody): Promise<RegisterReply>;
  heartbeat(key: string, body: HeartbeatBody): Promise<HeartbeatAnswer>;
  /** Answered when there is another revision than `after`, or at the end of the wait. */
  desired(key: string, ask: { after: number; waitMs: number; signal: AbortSignal }): Promise<DesiredReply>;
  report(key: string, body: ReportsBody): Promise<ReportsReply>;
  /** Lines of a pod's log. The answer waits while whoever reads them is slow. */
  podLogs(key: string, batch: LogBatch): Promise<LogBatchReply>;
  /** The agent that it hands out. */
  agent(): Promise<string>;
}

/** Its message has the status and the code of the answer, and never anything that was sent. */
export class CallError extends Error {
  /** Our credential is not accepted: nothing but a person's act can help. */
  readonly isRefused: boolean;
  /** What we sent is not understood. */
  readonly isMisunderstood: boolean;
  /** What the answer asked us to wait at least. */
  readonly retryAfterMs: number;

  constructor(
    message: string,
    options: { isRefused?: boolean; isMisunderstood?: boolean; retryAfterMs?: number } = {},
  ) {
    super(message);
    this.name = 'CallError';
    this.isRefused = options.isRefused ?? false;
    this.isMisunderstood = options.isMisunderstood ?? false;
    this.retryAfterMs = options.retryAfterMs ?? 0;
  }
}

const TIMEOUT_MS = 10_000;
const MAX_REPLY = 65_536;
/** Pods and orders. */
const MAX_DESIRED = 4_000_000;
const MAX_AGENT = 20_000_000;
const MAX_RETRY_AFTER_MS = 600_000;

export function createControlPlane(url: string): ControlPlane {
  const nodes = `${url}/api/v1/nodes`;
  return {
    async register(token, body) {
      const reply = await call(`${nodes}/register`, { credential: token, body });
      const { nodeId, key, intervalMs } = reply as Partial<RegisterReply>;
      if (typeof nodeId !== 'string' || typeof key !== 'string' || key === '') throw unreadable();
      return { nodeId, key, intervalMs: readInterval(intervalMs) };
    },
    async heartbeat(key, body) {
      const reply = await call(`${nodes}/heartbeat`, { credential: key, body });
      const { accepted, intervalMs, key: next, ...more } = reply as Partial<HeartbeatReply>;
      if (typeof accepted !== 'boolean') throw unreadable();
      const isKey = typeof next === 'string' && next !== '';
      return { accepted, intervalMs: readInterval(intervalMs), ...(isKey ? { key: next } : {}), ...readMore(more) };
    },
    async desired(key, { after, waitMs, signal }) {
      const reply = await call(`${nodes}/desired?after=${after}&waitMs=${waitMs}`, {
        credential: key,
        timeoutMs: waitMs + TIMEOUT_MS,
        maxReply: MAX_DESIRED,
        signal,
      });
      const { revision, isFenced, orders, pods } = reply as Partial<DesiredReply>;
      if (typeof revision !== 'number') throw unreadable();
      return {
        revision,
        isFenced: isFenced === true,
        orders: Array.isArray(orders) ? orders : null,
        pods: Array.isArray(pods) ? pods : null,
      };
    },
    async report(key, body) {
      const reply = await call(`${nodes}/reports`, { credential: key, body });
      return { acknowledgedOrders: readIds((reply as Partial<ReportsReply>).acknowledgedOrders) };
    },
    async podLogs(key, batch) {
      const reply = await call(`${nodes}/pod-logs`, { credential: key, body: batch });
      const { isWanted, isTaken } = reply as Partial<LogBatchReply>;
      return { isWanted: isWanted === true, isTaken: isTaken === true };
    },
    async agent() {
      const { status, headers, text } = await send(`${nodes}/agent.mjs`, { maxReply: MAX_AGENT, timeoutMs: 120_000 });
      if (status !== 200) throw refusal(status, headers, text);
      return text;
    },
  };
}

interface Sending {
  credential?: string;
  /** Absent: a GET. */
  body?: unknown;
  timeoutMs?: number;
  maxReply?: number;
  signal?: AbortSignal;
}

interface Answer {
  status: number;
  headers: IncomingMessage['headers'];
  text: string;
}

async function call(url: string, sending: Sending): Promise<unknown> {
  const { status, headers, text } = await send(url, sending);
  if (status < 200 || status >= 300) throw refusal(status, headers, text);
  const reply = parseObject(text);
  if (reply === null) throw unreadable();
  return reply;
}

function refusal(status: number, headers: Answer['headers'], text: string): CallError {
  const code = parseObject(text)?.['code'];
  const retryAfter = Number(headers['retry-after']);
  return new CallError(`answered ${status}${typeof code === 'string' ? ` (${code.slice(0, 60)})` : ''}`, {
    isRefused: status === 401 || status === 403 || status === 404,
    isMisunderstood: status === 400 || status === 422,
    retryAfterMs: retryAfter > 0 ? Math.min(retryAfter * 1000, MAX_RETRY_AFTER_MS) : 0,
  });
}

/**
 * Over connections that are kept, because a fresh one for each heartbeat costs the control plane more than the heartbeat. One that was
 * closed at the very moment when we used it says nothing: then it is sent again over a fresh one, which every call of ours allows.
 */
async function send(url: string, sending: Sending): Promise<Answer> {
  try {
    return await sendOnce(url, sending);
  } catch (error) {
    if (!(error instanceof StaleConnection)) throw error;
    return sendOnce(url, sending, false);
  }
}

class StaleConnection extends Error {}

let connections: Agent | null = null;

/**
 * node:http instead of fetch, and not by an import, which would load every export of it, fetch's machinery among them: 12 MB. TLS is loaded
 * only where it is spoken.
 */
function sendOnce(url: string, sending: Sending, isReused = true): Promise<Answer> {
  const { credential, body, timeoutMs = TIMEOUT_MS, maxReply = MAX_REPLY, signal } = sending;
  const http = process.getBuiltinModule(url.startsWith('https:') ? 'node:https' : 'node:http');
  connections ??= new http.Agent({ keepAlive: true, maxFreeSockets: 2 });
  const payload = body === undefined ? undefined : JSON.stringify(body);
  const limit = AbortSignal.timeout(timeoutMs);
  const options: RequestOptions = {
    method: payload === undefined ? 'GET' : 'POST',
    agent: isReused ? connections : false,
    headers: {
      ...(payload === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }),
      ...(credential === undefined ? {} : { 'x-agent-api-key': credential }),
      'user-agent': 'muster-agent',
    },
    signal: signal === undefined ? limit : AbortSignal.any([limit, signal]),
  };
  return new Promise((resolve, reject) => {
    const fail = (error: Error & { code?: string }) =>
      reject(new CallError(error.name === 'AbortError' ? `no answer within ${timeoutMs / 1000} s` : describe(error)));
    const sent = http.request(url, options, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        text += part;
        if (text.length > maxReply) response.destroy(new Error('the answer is too long'));
      });
      response.on('error', fail);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
    });
    sent.on('error', (error: Error & { code?: string }) => {
      const isStale = sent.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
      if (isStale) reject(new StaleConnection());
      else fail(error);
    });
    sent.end(payload);
  });
}

function describe(error: Error & { code?: string }): string {
  return error.code === undefined ? error.message : `cannot be reached (${error.code})`;
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** What an older control plane does not say is null, or as if nothing were asked of us. */
function readMore(more: Partial<HeartbeatReply>): Omit<HeartbeatAnswer, 'accepted' | 'intervalMs' | 'key'> {
  const { desiredRevision, acknowledgedOrders, deadManMs, isFenced, agentSha256 } = more;
  return {
    desiredRevision: typeof desiredRevision === 'number' ? desiredRevision : null,
    acknowledgedOrders: readIds(acknowledgedOrders),
    deadManMs: typeof deadManMs === 'number' && deadManMs > 0 ? deadManMs : null,
    isFenced: isFenced === true,
    agentSha256: typeof agentSha256 === 'string' && /^[0-9a-f]{64}$/.test(agentSha256) ? agentSha256 : null,
  };
}

function readIds(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((id) => typeof id === 'string') : [];
}

const DEFAULT_INTERVAL_MS = 10_000;

/** However wrong the answer is, we neither hammer nor fall silent. */
function readInterval(value: unknown): number {
  return typeof value === 'number' && value >= 500 && value <= 300_000 ? value : DEFAULT_INTERVAL_MS;
}

function unreadable(): CallError {
  return new CallError('the answer is not one of a control plane');
}
