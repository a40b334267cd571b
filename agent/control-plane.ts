/** The control plane as the agent sees it: two calls over HTTP. What to do about their failures is loop.ts's. */
import type { IncomingMessage, RequestOptions } from 'node:http';
import type { HeartbeatBody, HeartbeatReply, RegisterBody, RegisterReply } from '../api/contract/nodes.ts';

/** As the control plane answers. `desiredRevision` null: it is an older one, which knows only heartbeats. */
export type HeartbeatAnswer = Omit<HeartbeatReply, 'desiredRevision'> & { desiredRevision: number | null };

export interface ControlPlane {
  /** Throws CallError. */
  register(token: string, body: RegisterBody): Promise<RegisterReply>;
  /** Throws CallError. */
  heartbeat(key: string, body: HeartbeatBody): Promise<HeartbeatAnswer>;
}

/** Its message has the status and the code of the answer, and never anything that was sent. */
export class CallError extends Error {
  /** Our credential is not accepted: nothing but a person's act can help. */
  readonly isRefused: boolean;
  /** What the answer asked us to wait at least. */
  readonly retryAfterMs: number;

  constructor(message: string, options: { isRefused?: boolean; retryAfterMs?: number } = {}) {
    super(message);
    this.name = 'CallError';
    this.isRefused = options.isRefused ?? false;
    this.retryAfterMs = options.retryAfterMs ?? 0;
  }
}

const TIMEOUT_MS = 15_000;
const MAX_REPLY = 65_536;
const MAX_RETRY_AFTER_MS = 600_000;

export function createControlPlane(url: string): ControlPlane {
  return {
    async register(token, body) {
      const reply = await call(`${url}/api/v1/nodes/register`, token, body);
      const { nodeId, key, intervalMs } = reply as Partial<RegisterReply>;
      if (typeof nodeId !== 'string' || typeof key !== 'string' || key === '') throw unreadable();
      return { nodeId, key, intervalMs: readInterval(intervalMs) };
    },
    async heartbeat(key, body) {
      const reply = await call(`${url}/api/v1/nodes/heartbeat`, key, body);
      const { accepted, intervalMs, key: next, ...more } = reply as Partial<HeartbeatReply>;
      if (typeof accepted !== 'boolean') throw unreadable();
      const isKey = typeof next === 'string' && next !== '';
      return { accepted, intervalMs: readInterval(intervalMs), ...(isKey ? { key: next } : {}), ...readMore(more) };
    },
  };
}

async function call(url: string, credential: string, body: unknown): Promise<unknown> {
  const { status, headers, text } = await post(url, credential, JSON.stringify(body));
  if (status >= 200 && status < 300) {
    const reply = parseObject(text);
    if (reply === null) throw unreadable();
    return reply;
  }
  const code = parseObject(text)?.['code'];
  const retryAfter = Number(headers['retry-after']);
  throw new CallError(`answered ${status}${typeof code === 'string' ? ` (${code.slice(0, 60)})` : ''}`, {
    isRefused: status === 401 || status === 403 || status === 404,
    retryAfterMs: retryAfter > 0 ? Math.min(retryAfter * 1000, MAX_RETRY_AFTER_MS) : 0,
  });
}

/**
 * node:http instead of fetch, and not by an import, which would load every export of it, fetch's machinery among them: 12 MB. TLS is loaded
 * only where it is spoken.
 */
function post(
  url: string,
  credential: string,
  payload: string,
): Promise<{ status: number; headers: IncomingMessage['headers']; text: string }> {
  const { request } = process.getBuiltinModule(url.startsWith('https:') ? 'node:https' : 'node:http');
  const options: RequestOptions = {
    method: 'POST',
    agent: false,
    headers: {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(payload),
      'x-agent-api-key': credential,
      'user-agent': 'muster-agent',
    },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  };
  return new Promise((resolve, reject) => {
    const fail = (error: Error & { code?: string }) =>
      reject(new CallError(error.name === 'AbortError' ? `no answer within ${TIMEOUT_MS / 1000} s` : describe(error)));
    const sent = request(url, options, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        text += part;
        if (text.length > MAX_REPLY) response.destroy(new Error('the answer is too long'));
      });
      response.on('error', fail);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
    });
    sent.on('error', fail);
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
    acknowledgedOrders: Array.isArray(acknowledgedOrders) ? acknowledgedOrders.map(String) : [],
    deadManMs: typeof deadManMs === 'number' && deadManMs >= MIN_DEAD_MAN_MS ? deadManMs : null,
    isFenced: isFenced === true,
    agentSha256: typeof agentSha256 === 'string' && /^[0-9a-f]{64}$/.test(agentSha256) ? agentSha256 : null,
  };
}

/** However wrong the answer is, no machine is switched off for a hiccup. */
const MIN_DEAD_MAN_MS = 2_000;
const DEFAULT_INTERVAL_MS = 10_000;

/** However wrong the answer is, we neither hammer nor fall silent. */
function readInterval(value: unknown): number {
  return typeof value === 'number' && value >= 500 && value <= 300_000 ? value : DEFAULT_INTERVAL_MS;
}

function unreadable(): CallError {
  return new CallError('the answer is not one of a control plane');
}
