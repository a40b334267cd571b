/**
 * Sends one call to RunPod: its turn at the account's rate limit, the key, the vendor's errors made typed, secrets kept out of
 * them. It repeats only what the rate limit turned away, and never a purchase.
 */
import { ProviderError } from '../../domain/provider-error.ts';
import { HttpFailure, sendHttp, type HttpReply, type HttpRequest } from '../http.ts';
import type { ProviderSettings, RateLimiter } from '../provider-client.ts';
import { classifyRunpodError, type RunpodCall } from './errors.ts';
import { RUNPOD_LANE, waitOfHeaders } from './rate-limits.ts';

const DEFAULT_TIMEOUT_MS = 30_000;
/** A call that the vendor's rate limit turned away is tried so often in all. */
const RATE_LIMIT_TRIES = 4;
/** How long to stay away after a 429 that names no time; doubled each time. */
const RATE_LIMIT_PAUSE_MS = 1_000;
/** The caller hears of a longer wait instead of standing in it. */
const MAX_SILENT_WAIT_MS = 90_000;
/** After a cancel, a purchase under way gets this long to answer: knowing is cheaper than looking it up. */
const PURCHASE_CANCEL_GRACE_MS = 5_000;

export interface Call {
  kind: RunpodCall;
  method: HttpRequest['method'];
  path: string;
  /** The statuses of a good answer; with a body that is JSON, except 204. */
  good: readonly number[];
  body?: unknown;
  signal?: AbortSignal | undefined;
  /** Values that must not appear in an error, besides the key. */
  secrets?: string[];
  /** Called once the call's turn has come; what it throws stops the call. */
  beforeSending?: (() => void) | undefined;
}

/** The JSON of a good answer, undefined for 204. Throws ProviderError. */
export type Send = (call: Call) => Promise<unknown>;

export function createSender(settings: ProviderSettings, limiter: RateLimiter): Send {
  const timeoutMs = settings.requestTimeoutMs ?? DEFAULT_TIMEOUT_MS;
  const headers = { Authorization: `Bearer ${settings.apiKey}`, Accept: 'application/json' };
  const base = settings.baseUrl.replace(/\/+$/, '');

  const sendOnce = async (call: Call): Promise<unknown> => {
    await limiter.acquire('runpod', RUNPOD_LANE, call.signal);
    call.beforeSending?.();
    const signal = call.kind === 'purchase' ? delayedAbort(call.signal) : call.signal;
    const request = { method: call.method, url: base + call.path, headers, body: call.body, timeoutMs, signal };
    const reply = await sendHttp(request).catch((error: unknown) => {
      throw errorOfFailure(call.kind, error);
    });
    if (isAnswer(call, reply)) {
      // The last call of a window was answered: the next one would not be.
      const waitMs = waitOfHeaders(reply.headers);
      if (waitMs > 0) await limiter.slowDown('runpod', RUNPOD_LANE, waitMs).catch(() => {});
      return reply.status === 204 ? undefined : reply.json;
    }
    throw withoutSecrets(classifyRunpodError(call.kind, reply), [settings.apiKey, ...(call.secrets ?? [])]);
  };

  return async (call) => {
    for (let tried = 1; ; tried++) {
      try {
        return await sendOnce(call);
      } catch (error) {
        if (!(error instanceof ProviderError) || error.httpStatus !== 429) throw error;
        const waitMs = error.retryAfterMs ?? RATE_LIMIT_PAUSE_MS * 2 ** (tried - 1);
        await limiter.slowDown('runpod', RUNPOD_LANE, waitMs);
        if (error.kind !== 'rate_limited' || tried >= RATE_LIMIT_TRIES || waitMs > MAX_SILENT_WAIT_MS) throw error;
      }
    }
  };
}

function isAnswer(call: Call, reply: HttpReply): boolean {
  return call.good.includes(reply.status) && (reply.status === 204 || reply.json !== undefined);
}

function errorOfFailure(kind: RunpodCall, error: unknown): unknown {
  if (!(error instanceof HttpFailure)) return error;
  if (kind !== 'read' && error.mayHaveArrived) return new ProviderError('unknown', `RunPod: ${error.message}`);
  return new ProviderError(error.reason === 'aborted' ? 'canceled' : 'retryable', `RunPod: ${error.message}`);
}

function withoutSecrets(error: ProviderError, secrets: string[]): ProviderError {
  for (const secret of secrets) if (secret.length >= 6) error.message = error.message.replaceAll(secret, '[secret]');
  return error;
}

/** A signal that follows `signal` after the grace, so that an answer on its way is still heard. */
function delayedAbort(signal: AbortSignal | undefined): AbortSignal | undefined {
  if (signal === undefined || signal.aborted) return signal;
  const controller = new AbortController();
  const abortLater = (): void => void setTimeout(() => controller.abort(), PURCHASE_CANCEL_GRACE_MS).unref();
  signal.addEventListener('abort', abortLater, { once: true });
  return controller.signal;
}
