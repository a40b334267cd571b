/**
 * Sends one call to TensorDock: its turn at the rate limiter, the token, the vendor's errors made typed (those that come with
 * status 200 too), secrets kept out of them. It repeats only what the vendor's rate limit turned away, and never a purchase.
 */
import { ProviderError } from '../../domain/provider-error.ts';
import { HttpFailure, sendHttp, type HttpReply, type HttpRequest } from '../http.ts';
import type { ProviderSettings, RateLimiter } from '../provider-client.ts';
import { classifyTensordockError, isErrorBody, type TensordockCall } from './errors.ts';

const BASE_PATH = '/api/v2';
/** Answers after more than 12 s are usual at this vendor. */
const DEFAULT_TIMEOUT_MS = 30_000;
/** A purchase is given this many times longer: it is answered when the machine is placed. */
const PURCHASE_TIMEOUT_FACTOR = 2;
/** A call that the vendor's rate limit turned away is tried so often in all. */
const RATE_LIMIT_TRIES = 4;
/** How long to stay away after a 429 that does not say; doubled each time. */
const RATE_LIMIT_PAUSE_MS = 2_000;
/** After a cancel, a purchase under way gets this long to answer: knowing is cheaper than looking it up. */
const PURCHASE_CANCEL_GRACE_MS = 5_000;

export interface Call {
  kind: TensordockCall;
  method: HttpRequest['method'];
  path: string;
  body?: unknown;
  signal?: AbortSignal | undefined;
  /** Values that must not appear in an error, besides the token. */
  secrets?: string[];
  /** Called once the call's turn has come; what it throws stops the call. */
  beforeSending?: (() => void) | undefined;
}

/** The JSON of a good answer; undefined for a good answer without a body, which only a `write` may have. Throws ProviderError. */
export type Send = (call: Call) => Promise<unknown>;

export function createSender(settings: ProviderSettings, limiter: RateLimiter): Send {
  const readTimeoutMs = settings.requestTimeoutMs ?? DEFAULT_TIMEOUT_MS;
  const baseUrl = settings.baseUrl.replace(/\/+$/, '') + BASE_PATH;
  const headers = { Authorization: `Bearer ${settings.apiKey}`, Accept: 'application/json' };

  const sendOnce = async (call: Call): Promise<unknown> => {
    await limiter.acquire('tensordock', 'api', call.signal);
    call.beforeSending?.();
    const isPurchase = call.kind === 'purchase';
    const reply = await sendHttp({
      method: call.method,
      url: baseUrl + call.path,
      headers,
      body: call.body,
      timeoutMs: isPurchase ? readTimeoutMs * PURCHASE_TIMEOUT_FACTOR : readTimeoutMs,
      signal: isPurchase ? delayedAbort(call.signal) : call.signal,
    }).catch((error: unknown) => {
      throw errorOfFailure(call.kind, error);
    });
    if (isAnswer(call.kind, reply)) return reply.json;
    throw withoutSecrets(classifyTensordockError(call.kind, reply), [settings.apiKey, ...(call.secrets ?? [])]);
  };

  return async (call) => {
    for (let tried = 1; ; tried++) {
      try {
        return await sendOnce(call);
      } catch (error) {
        if (!(error instanceof ProviderError) || error.httpStatus !== 429) throw error;
        const pauseMs = error.retryAfterMs ?? RATE_LIMIT_PAUSE_MS * 2 ** (tried - 1);
        await limiter.slowDown('tensordock', 'api', pauseMs);
        if (error.kind !== 'rate_limited' || tried >= RATE_LIMIT_TRIES) throw error;
      }
    }
  };
}

function isAnswer(kind: TensordockCall, reply: HttpReply): boolean {
  if (reply.status < 200 || reply.status > 299) return false;
  if (reply.json === undefined) return kind === 'write' && reply.text.trim() === '';
  return !isErrorBody(reply.json);
}

function errorOfFailure(kind: TensordockCall, error: unknown): unknown {
  if (!(error instanceof HttpFailure)) return error;
  if (kind !== 'read' && error.mayHaveArrived) return new ProviderError('unknown', `TensorDock: ${error.message}`);
  return new ProviderError(error.reason === 'aborted' ? 'canceled' : 'retryable', `TensorDock: ${error.message}`);
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
