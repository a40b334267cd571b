/**
 * What a refusal by Lambda means, by the caller's next move. The vendor's codes decide; a status alone does only where there is no
 * code. A purchase without a definite refusal is `unknown`.
 */
import { ProviderError, type ProviderErrorKind } from '../../domain/provider-error.ts';
import { excerptOf, isObject, type HttpReply } from '../http.ts';
import type { CallKind } from '../vendor-sender.ts';
import { text } from './wire.ts';

/** A launch that was turned away for its rate may be repeated after this long; the vendor does not say it in its answer. */
const LAUNCH_SPACING_MS = 12_000;

export function classifyLambdaError(call: CallKind, reply: HttpReply): ProviderError {
  const body = isObject(reply.json) && isObject(reply.json.error) ? reply.json.error : {};
  const code = text(body.code);
  const said = [code, text(body.message)].filter((part) => part !== null).join(': ');
  const retryAfter = Number(reply.headers.get('retry-after') ?? Number.NaN);
  const pauseMs = Number.isFinite(retryAfter)
    ? retryAfter * 1_000
    : call === 'purchase'
      ? LAUNCH_SPACING_MS
      : undefined;
  return new ProviderError(
    kindOf(call, reply.status, code),
    `Lambda answered ${reply.status}: ${excerptOf(said === '' ? reply.text : said)}`,
    { httpStatus: reply.status, ...(reply.status === 429 && pauseMs !== undefined ? { retryAfterMs: pauseMs } : {}) },
  );
}

function kindOf(call: CallKind, status: number, code: string | null): ProviderErrorKind {
  if (status === 429 || code === 'global/too-many-requests') return call === 'purchase' ? 'unknown' : 'rate_limited';
  if (status >= 500) return call === 'read' ? 'retryable' : 'unknown';
  switch (code) {
    case 'global/invalid-api-key':
      return 'auth';
    // Nothing can be bought, and all else may be refused too, until a person sees to the account.
    case 'global/account-inactive':
    case 'global/invalid-address':
      return call === 'purchase' ? 'billing' : 'auth';
    // Not a matter of this offer: support must raise it. Trying others costs twelve seconds each.
    case 'global/quota-exceeded':
      return 'billing';
    case 'instance-operations/launch/insufficient-capacity':
      return 'no_capacity';
    // Of a launch: the key (or what else it names) was taken away meanwhile; nothing was bought.
    case 'global/object-does-not-exist':
      return call === 'purchase' ? 'retryable' : 'not_found';
    case null:
      break;
    default:
      if (status === 400 || status === 403 || status === 404 || status === 409 || status === 422) return 'invalid';
  }
  if (status === 401) return 'auth';
  // Redirects, pages of proxies, JSON of another shape: nobody said no.
  return call === 'purchase' ? 'unknown' : 'unbelievable';
}
