/**
 * One HTTP exchange with a vendor. Knows nothing of vendors: it bounds time and size, never follows a redirect (it would carry
 * the key elsewhere) and tells whether the request may have reached the other side. Repeating is the caller's decision.
 */

export interface HttpRequest {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  url: string;
  headers: Record<string, string>;
  /** Sent as JSON; absent: no body. */
  body?: unknown;
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}

/** Any complete answer, whatever its status. `json` is undefined where the body is not JSON. */
export interface HttpReply {
  status: number;
  headers: Headers;
  text: string;
  json: unknown;
}

export type Json = Record<string, unknown>;

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const LONGEST_SHOWN = 300;

/** What of an answer's text is shown to people: one line without markup; `nothing` where there is none. */
export function excerptOf(text: string): string {
  const line = text
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ')
    .trim();
  if (line === '') return 'nothing';
  return line.length > LONGEST_SHOWN ? `${line.slice(0, LONGEST_SHOWN)}…` : line;
}

export type HttpFailureReason = 'aborted' | 'timeout' | 'connection' | 'too_large';

/** No complete answer. `mayHaveArrived` is false only where the request certainly never reached the other side. */
export class HttpFailure extends Error {
  readonly reason: HttpFailureReason;
  readonly mayHaveArrived: boolean;

  constructor(reason: HttpFailureReason, mayHaveArrived: boolean, message: string) {
    super(message);
    this.name = 'HttpFailure';
    this.reason = reason;
    this.mayHaveArrived = mayHaveArrived;
  }
}

/** 32 MiB: the largest known answer (3,000 offers of some 3 KB) with room; more is not a listing. */
const MAX_BODY_BYTES = 32 * 1024 * 1024;

/** Codes of failures before a request could be written: name resolution and connecting. */
const NEVER_CONNECTED = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** Throws HttpFailure, whose message names method and path only: neither headers nor the query, which may hold a key. */
export async function sendHttp(request: HttpRequest): Promise<HttpReply> {
  const where = `${request.method} ${new URL(request.url).pathname}`;
  if (request.signal?.aborted) throw new HttpFailure('aborted', false, `${where}: canceled before it was sent`);
  const timeout = AbortSignal.timeout(request.timeoutMs);
  const signal = request.signal ? AbortSignal.any([timeout, request.signal]) : timeout;
  try {
    const response = await fetch(request.url, {
      method: request.method,
      headers:
        request.body === undefined ? request.headers : { ...request.headers, 'Content-Type': 'application/json' },
      ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
      redirect: 'manual',
      signal,
    });
    const text = await readBounded(response, where);
    return { status: response.status, headers: response.headers, text, json: parseJson(text) };
  } catch (error) {
    if (error instanceof HttpFailure) throw error;
    if (request.signal?.aborted)
      throw new HttpFailure('aborted', true, `${where}: canceled while waiting for the answer`);
    if (timeout.aborted) throw new HttpFailure('timeout', true, `${where}: no answer within ${request.timeoutMs} ms`);
    const code = findCode(error);
    throw new HttpFailure('connection', !NEVER_CONNECTED.has(code), `${where}: ${code}`);
  }
}

async function readBounded(response: Response, where: string): Promise<string> {
  if (!response.body) return '';
  const decoder = new TextDecoder();
  let text = '';
  let bytes = 0;
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES)
      throw new HttpFailure('too_large', true, `${where}: answer above ${MAX_BODY_BYTES} bytes`);
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** fetch wraps the socket's error; the code is some causes deep, or in an AggregateError when several addresses were tried. */
function findCode(error: unknown): string {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 5; cause = cause.cause, depth++) {
    const { code } = cause as { code?: unknown };
    if (typeof code === 'string') return code;
    if (cause instanceof AggregateError && cause.errors.length > 0) return findCode(cause.errors[0]);
  }
  return 'connection failed';
}
