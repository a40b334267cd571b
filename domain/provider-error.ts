/** What can come of a call to a provider, named by the caller's next move. */
export const PROVIDER_ERROR_KINDS = [
  /** Definitely refused: this offer cannot be had. Take the next candidate. */
  'no_capacity',
  /** The request itself is wrong and will stay wrong (validation). Fail, do not repeat. */
  'invalid',
  /** Our credentials are refused. Stop using the provider until a person acts. */
  'auth',
  /** The account cannot pay. Stop buying there. */
  'billing',
  /** The thing is not there, in the vendor's own words (never: an error that looks like it). */
  'not_found',
  /** Slow down; the request had no effect. For a purchase the vendor's 429 is `unknown` instead. */
  'rate_limited',
  /** Try again later; the request had no effect (never reached the vendor, or is read-only). */
  'retryable',
  /** The request may have had its effect: look up by label before anything else. */
  'unknown',
  /** The reply is not believable: malformed, deprecated, truncated. Never an empty answer. */
  'unbelievable',
  /** Stopped because the caller asked (cancel). */
  'canceled',
] as const;
export type ProviderErrorKind = (typeof PROVIDER_ERROR_KINDS)[number];

export class ProviderError extends Error {
  readonly kind: ProviderErrorKind;
  /** A refused purchase that still made a machine: it bills and must be destroyed. */
  readonly createdInstanceId: string | undefined;
  readonly httpStatus: number | undefined;
  /** How long the vendor asked us to wait; absent where it did not say. */
  readonly retryAfterMs: number | undefined;

  constructor(
    kind: ProviderErrorKind,
    message: string,
    options: { createdInstanceId?: string; httpStatus?: number; retryAfterMs?: number; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'ProviderError';
    this.kind = kind;
    this.createdInstanceId = options.createdInstanceId;
    this.httpStatus = options.httpStatus;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Whether the same call may succeed later without anybody's help. */
export function isRetryable(kind: ProviderErrorKind): boolean {
  switch (kind) {
    case 'rate_limited':
    case 'retryable':
    case 'unknown':
    case 'unbelievable':
      return true;
    case 'no_capacity':
    case 'invalid':
    case 'auth':
    case 'billing':
    case 'not_found':
    case 'canceled':
      return false;
  }
}
