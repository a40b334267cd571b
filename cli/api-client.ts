/**
 * The API over HTTP: one request is one call here. It shows the bearer, sends an idempotency key with what changes something, repeats
 * what a lost connection left open under that same key, and turns problem documents into ApiError. It knows no routes.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Problem } from '../api/contract/problem.ts';
import type { Credentials } from './credentials.ts';
import { CliError, EXIT, exitCodeOfStatus } from './exit-code.ts';

export type Query = Record<string, string | number | boolean | undefined>;

export interface ApiClient {
  readonly url: string;
  get<T>(path: string, query?: Query): Promise<T>;
  /** `isPlain`: without an idempotency key, for what spends and destroys nothing. */
  post<T>(path: string, body?: unknown, options?: { isPlain?: boolean }): Promise<T>;
  /** Without an idempotency key: sent twice, it changes the same to the same. */
  patch<T>(path: string, body: unknown): Promise<T>;
  delete<T>(path: string, body?: unknown): Promise<T>;
  /** Opens a stream of Server-Sent Events; not repeated and not timed out. */
  openStream(path: string, lastEventId: string | null, signal: AbortSignal): Promise<Response>;
}

/** An error answer of the API. `problem` is null where the answer was no problem document (a proxy's page, say). */
export class ApiError extends CliError {
  readonly status: number;
  readonly problem: Problem | null;

  constructor(status: number, problem: Problem | null, message: string) {
    super(message, exitCodeOfStatus(status));
    this.name = 'ApiError';
    this.status = status;
    this.problem = problem;
  }
}

/** The server could not be reached, or went away in the middle. */
export class ConnectionError extends CliError {
  readonly isRefused: boolean;

  constructor(url: string, cause: unknown) {
    const code = errorCode(cause);
    const isRefused = code === 'ECONNREFUSED';
    const hint = isRefused ? ' Is the control plane running there ("npm start"), and is this its address (--url)?' : '';
    super(`${url} cannot be reached (${code}).${hint}`, EXIT.failed, { cause });
    this.name = 'ConnectionError';
    this.isRefused = isRefused;
  }
}

const REQUEST_TIMEOUT_MS = 30_000;
/** Waits before the second, third, … try: a control plane that restarts is back within them. */
const RETRY_AFTER_MS = [250, 1000, 2000, 4000];
const LONGEST_RETRY_AFTER_MS = 10_000;

export function createApiClient(credentials: Credentials): ApiClient {
  async function send(path: string, init: RequestInit): Promise<Response> {
    const response = await sendOnce(path, init);
    if (response.status !== 401 || !(await credentials.renew())) return response;
    await response.body?.cancel();
    return sendOnce(path, init);
  }

  async function sendOnce(path: string, init: RequestInit): Promise<Response> {
    const bearer = await credentials.bearer();
    const headers = new Headers(init.headers);
    if (bearer !== null) headers.set('authorization', `Bearer ${bearer}`);
    try {
      return await fetch(`${credentials.url}/api/v1${path}`, { ...init, headers });
    } catch (error) {
      if (init.signal?.aborted && !isTimeout(error)) throw error;
      throw new ConnectionError(credentials.url, error);
    }
  }

  async function request<T>(method: string, path: string, body: unknown, key: string | null): Promise<T> {
    const headers: Record<string, string> = { accept: 'application/json' };
    if (body !== undefined) headers['content-type'] = 'application/json';
    if (key !== null) headers['idempotency-key'] = key;
    const text = body === undefined ? null : JSON.stringify(body);
    const isRepeatable = method === 'GET' || key !== null;
    for (let tries = 0; ; tries++) {
      const wait = isRepeatable ? RETRY_AFTER_MS[tries] : undefined;
      try {
        const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
        const response = await send(path, { method, headers, body: text, signal });
        const answer = await readText(response, credentials.url);
        if (response.ok) return (answer === '' ? null : parseJson(answer, credentials.url)) as T;
        const error = toApiError(response, answer);
        if (wait === undefined || !isWorthRepeating(error)) throw error;
        await pause(retryAfter(response) ?? wait);
      } catch (error) {
        // Nobody listened at the first try: nothing can have happened, and nobody is restarting either.
        const isHopeless = !(error instanceof ConnectionError) || (error.isRefused && tries === 0);
        if (isHopeless || wait === undefined) throw error;
        await pause(wait);
      }
    }
  }

  return {
    url: credentials.url,
    get: (path, query) => request('GET', `${path}${formatQuery(query)}`, undefined, null),
    post: (path, body, options) => request('POST', path, body, options?.isPlain ? null : randomUUID()),
    patch: (path, body) => request('PATCH', path, body, null),
    delete: (path, body) => request('DELETE', path, body, randomUUID()),
    async openStream(path, lastEventId, signal) {
      const headers: Record<string, string> = { accept: 'text/event-stream' };
      if (lastEventId !== null) headers['last-event-id'] = lastEventId;
      const response = await send(path, { method: 'GET', headers, signal });
      if (response.ok) return response;
      throw toApiError(response, await readText(response, credentials.url));
    },
  };
}

function formatQuery(query: Query = {}): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined) as [
    string,
    string | number | boolean,
  ][];
  if (pairs.length === 0) return '';
  return `?${new URLSearchParams(pairs.map(([name, value]) => [name, String(value)])).toString()}`;
}

async function readText(response: Response, url: string): Promise<string> {
  try {
    return await response.text();
  } catch (error) {
    throw new ConnectionError(url, error);
  }
}

function parseJson(text: string, url: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new CliError(
      `${url} answered with something that is no JSON. Is it the address of a control plane?`,
      EXIT.failed,
    );
  }
}

function toApiError(response: Response, text: string): ApiError {
  const problem = readProblem(text);
  if (problem === null) {
    const message = `the server answered ${response.status} without saying why. Is it the address of a control plane?`;
    return new ApiError(response.status, null, message);
  }
  return new ApiError(response.status, problem, formatProblem(problem));
}

function readProblem(text: string): Problem | null {
  try {
    const value = JSON.parse(text) as Partial<Problem> | null;
    return typeof value?.code === 'string' && typeof value.detail === 'string' ? (value as Problem) : null;
  } catch {
    return null;
  }
}

/** Detail, then one line for each wrong field, then what a person who helps needs. */
function formatProblem(problem: Problem): string {
  const lines = [`${problem.detail} (${problem.code})`];
  for (const { path, message } of problem.errors ?? []) lines.push(`  ${path || 'body'}: ${message}`);
  if (problem.status >= 500 && problem.requestId) lines.push(`  request ${problem.requestId}`);
  return lines.join('\n');
}

/** Only what says by itself that it may be sent again: the same answer would otherwise come again, or worse. */
function isWorthRepeating(error: ApiError): boolean {
  return error.status === 429 || error.status === 503 || error.problem?.code === 'idempotency_in_progress';
}

function retryAfter(response: Response): number | undefined {
  const seconds = Number(response.headers.get('retry-after') ?? NaN);
  return seconds >= 0 ? Math.min(seconds * 1000, LONGEST_RETRY_AFTER_MS) : undefined;
}

function isTimeout(error: unknown): boolean {
  return error instanceof Error && error.name === 'TimeoutError';
}

function errorCode(error: unknown): string {
  if (isTimeout(error)) return 'no answer in time';
  const cause = error instanceof Error ? error.cause : undefined;
  for (const each of [cause, error]) {
    const code = (each as { code?: unknown } | undefined)?.code;
    if (typeof code === 'string') return code;
  }
  return error instanceof Error ? error.message : 'unknown';
}
