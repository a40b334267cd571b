/**
 * Sends one call to Vast.ai: its turn at the rate limiter, the key, the vendor's errors made typed, secrets kept out of them.
 * It repeats only what the vendor's rate limit turned away, and never a purchase.
 */
import { ProviderError } from '../../domain/provider-error.ts';
import { HttpFailure, sendHttp, type HttpReply, type HttpRequest } from '../http.ts';
import type { ProviderSettings, RateLimiter } from '../provider-client.ts';
import { classifyVastError, type VastCall } from './errors.ts';
import type { VastaiEndpoint } from './rate-limits.ts';
import { isObject } from './wire.ts';

const DEFAULT_TIMEOUT_MS = 30_000;
/** A call that the vendor's rate limit turned away is tried so often in all. */
const RATE_LIMIT_TRIES = 4;
/** How long to stay away after a 429 that names no threshold; doubled each time. */
const RATE_LIMIT_PAUSE_MS = 1_000;
/** After a cancel, a purchase under way gets this long to answer: knowing is cheaper than looking it up. */
const PURCHASE_CANCEL_GRACE_MS = 5_000;

export interface Call {
  endpoint: VastaiEndpoint;
  kind: VastCall;
  method: HttpRequest['method'];
  path: string;
  body?: unknown;
  signal?: AbortSignal | undefined;
  /** Values that must not appear in an error, besides the key. */
  secrets?: string[];
  /** Called once the call's turn has come; what it throws stops the call. */
  beforeSending?: (() => void) | undefined;
}

/** The JSON of a good answer. Throws ProviderError. */
export type Send = (call: Call) => Promise<unknown>;

export function createSender(settings: ProviderSettings, limiter: RateLimiter): Send {
  const timeoutMs = settings.requestTimeoutMs ?? DEFAULT_TIMEOUT_MS;
  const headers = { Authorization: `Bearer ${settings.apiKey}`, Accept: 'application/json' };

  const sendOnce = async (call: Call): Promise<unknown> => {
    await limiter.acquire('vastai', call.endpoint, call.signal);
    call.beforeSending?.();
    const url = baseUrl(settings) + call.path;
    const signal = call.kind === 'purchase' ? delayedAbort(call.signal) : call.signal;
    const reply = await sendHttp({ method: call.method, url, headers, body: call.body, timeoutMs, signal }).catch(
      (error: unknown) => {
        throw errorOfFailure(call.kind, error);
      },
    );
    if (isAnswer(reply)) return reply.json;
    throw withoutSecrets(classifyVastError(call.kind, reply), [settings.apiKey, ...(call.secrets ?? [])]);
  };

  return async (call) => {
    for (let tried = 1; ; tried++) {
      try {
        return await sendOnce(call);
      } catch (error) {
        if (!(error instanceof ProviderError) || error.httpStatus !== 429) throw error;
        await limiter.slowDown('vastai', call.endpoint, (error.retryAfterMs ?? RATE_LIMIT_PAUSE_MS) * 2 ** (tried - 1));
        if (error.kind !== 'rate_limited' || tried >= RATE_LIMIT_TRIES) throw error;
      }
    }
  };
}

function isAnswer(reply: HttpReply): boolean {
  if (reply.status !== 200 || reply.json === undefined) return false;
  return !(isObject(reply.json) && reply.json.success === false);
}

function errorOfFailure(kind: VastCall, error: unknown): unknown {
  if (!(error instanceof HttpFailure)) return error;
  if (kind !== 'read' && error.mayHaveArrived) return new ProviderError('unknown', `Vast.ai: ${error.message}`);
  return new ProviderError(error.reason === 'aborted' ? 'canceled' : 'retryable', `Vast.ai: ${error.message}`);
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

/** Scheme, host and port; the adapter adds the path. */
export function baseUrl(settings: ProviderSettings): string {
  return settings.baseUrl.replace(/\/+$/, '');
}
