/**
 * Sends one call to a vendor: its turn at the rate limiter, the key, the vendor's errors made typed, secrets kept out of them. It
 * repeats only what the vendor's rate limit turned away, and never a purchase. What an answer means, the vendor's rules say.
 */
import { ProviderError } from '../domain/provider-error.ts';
import type { ProviderName } from '../domain/provider.ts';
import { HttpFailure, sendHttp, type HttpReply, type HttpRequest } from './http.ts';
import type { ProviderSettings, RateLimiter } from './provider-client.ts';

/** `purchase` may have bought; `write` may have changed something and may be repeated; `read` changes nothing. */
export type CallKind = 'purchase' | 'write' | 'read';

export interface VendorCall {
  kind: CallKind;
  method: HttpRequest['method'];
  path: string;
  body?: unknown;
  signal?: AbortSignal | undefined;
  /** Values that must not appear in an error, besides the key. */
  secrets?: string[];
  /** Called once the call's turn has come; what it throws stops the call. */
  beforeSending?: (() => void) | undefined;
}

export interface VendorRules<Call extends VendorCall> {
  provider: ProviderName;
  /** As the vendor writes itself, for errors. */
  title: string;
  /** The endpoints at whose turn the call waits, one after the other. A 429 slows the first one down. */
  lanesOf(call: Call): readonly [string, ...string[]];
  /** Whether this is the good answer to the call. */
  isAnswer(call: Call, reply: HttpReply): boolean;
  classify(call: Call, reply: HttpReply): ProviderError;
  /** How long to stay away after a good answer, in milliseconds: its headers may say that the next call would be turned away. Default 0. */
  pauseAfter?(reply: HttpReply): number;
  /** How long to stay away after a 429 that does not say; doubled each time. */
  rateLimitPauseMs: number;
  /** How many times longer than other calls a purchase may take. Default 1. */
  purchaseTimeoutFactor?: number;
}

/** The JSON of a good answer; undefined where it has none. Throws ProviderError. */
export type Send<Call extends VendorCall> = (call: Call) => Promise<unknown>;

const DEFAULT_TIMEOUT_MS = 30_000;
/** A call that the vendor's rate limit turned away is tried so often in all. */
const RATE_LIMIT_TRIES = 4;
/** The caller hears of a longer wait instead of standing in it. */
const MAX_SILENT_WAIT_MS = 90_000;
/** After a cancel, a purchase under way gets this long to answer: knowing is cheaper than looking it up. */
const PURCHASE_CANCEL_GRACE_MS = 5_000;

export function createVendorSender<Call extends VendorCall>(
  settings: ProviderSettings,
  limiter: RateLimiter,
  rules: VendorRules<Call>,
): Send<Call> {
  const { provider, title } = rules;
  const timeoutMs = settings.requestTimeoutMs ?? DEFAULT_TIMEOUT_MS;
  const headers = { Authorization: `Bearer ${settings.apiKey}`, Accept: 'application/json' };
  const base = baseUrlOf(settings);

  const sendOnce = async (call: Call): Promise<unknown> => {
    for (const lane of rules.lanesOf(call)) await limiter.acquire(provider, lane, call.signal);
    call.beforeSending?.();
    const isPurchase = call.kind === 'purchase';
    const { method, body } = call;
    const reply = await sendHttp({
      method,
      url: base + call.path,
      headers,
      body,
      timeoutMs: isPurchase ? timeoutMs * (rules.purchaseTimeoutFactor ?? 1) : timeoutMs,
      signal: isPurchase ? delayedAbort(call.signal) : call.signal,
    }).catch((error: unknown) => {
      throw errorOfFailure(title, call.kind, error);
    });
    if (rules.isAnswer(call, reply)) {
      const pauseMs = rules.pauseAfter?.(reply) ?? 0;
      // What was answered stands, whether or not the others hear of the pause.
      if (pauseMs > 0) await limiter.slowDown(provider, rules.lanesOf(call)[0], pauseMs).catch(() => {});
      return reply.json;
    }
    throw withoutSecrets(rules.classify(call, reply), [settings.apiKey, ...(call.secrets ?? [])]);
  };

  return async (call) => {
    for (let tried = 1; ; tried++) {
      try {
        return await sendOnce(call);
      } catch (error) {
        if (!(error instanceof ProviderError) || error.httpStatus !== 429) throw error;
        const waitMs = error.retryAfterMs ?? rules.rateLimitPauseMs * 2 ** (tried - 1);
        await limiter.slowDown(provider, rules.lanesOf(call)[0], waitMs);
        if (error.kind !== 'rate_limited' || tried >= RATE_LIMIT_TRIES || waitMs > MAX_SILENT_WAIT_MS) throw error;
      }
    }
  };
}

/** Scheme, host and port; calls add the path. */
export function baseUrlOf(settings: ProviderSettings): string {
  return settings.baseUrl.replace(/\/+$/, '');
}

function errorOfFailure(title: string, kind: CallKind, error: unknown): unknown {
  if (!(error instanceof HttpFailure)) return error;
  if (kind !== 'read' && error.mayHaveArrived) return new ProviderError('unknown', `${title}: ${error.message}`);
  return new ProviderError(error.reason === 'aborted' ? 'canceled' : 'retryable', `${title}: ${error.message}`);
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
