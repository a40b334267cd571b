/** What Vast.ai's refusals mean. All sniffing of the vendor's texts happens in `classifyVastError`. */
import { ProviderError, type ProviderErrorKind } from '../../domain/provider-error.ts';
import { excerptOf, isObject, type HttpReply } from '../http.ts';
import type { CallKind } from '../vendor-sender.ts';
import { text } from './wire.ts';

/**
 * The error of an answer that is not the one wanted: any status but 200, `success: false`, or a body that is no JSON.
 * A definite refusal needs the vendor's own words; a purchase without them is `unknown`.
 */
export function classifyVastError(call: CallKind, reply: HttpReply): ProviderError {
  const body = isObject(reply.json) ? reply.json : {};
  const words = [text(body.error), text(body.msg), text(body.detail)].filter((part) => part !== null).join(': ');
  const said = words === '' ? reply.text.slice(0, 500) : words;
  const createdInstanceId = body.success !== true ? (text(body.new_contract) ?? undefined) : undefined;
  const kind = createdInstanceId === undefined ? kindOf(call, reply, said) : 'no_capacity';
  const waitSeconds = /threshold\s*=\s*([\d.]+)/.exec(said)?.[1];
  return new ProviderError(kind, `Vast.ai answered ${reply.status}: ${excerptOf(said)}`, {
    httpStatus: reply.status,
    ...(createdInstanceId === undefined ? {} : { createdInstanceId }),
    ...(reply.status === 429 && waitSeconds !== undefined ? { retryAfterMs: Number(waitSeconds) * 1000 } : {}),
  });
}

function kindOf(call: CallKind, reply: HttpReply, said: string): ProviderErrorKind {
  const { status } = reply;
  // A bad key was seen live as 404, and documented as 401; sessions with a second factor expire as either.
  if (/auth_error|invalid user key|two factor authentication|session expired/i.test(said)) return 'auth';
  if (status === 429 || /API requests too frequent/i.test(said))
    return call === 'purchase' ? 'unknown' : 'rate_limited';
  if (status >= 500) return call === 'read' ? 'retryable' : 'unknown';
  if (/no_such_ask/.test(said)) return 'no_capacity';
  if (/deprecated_endpoint/.test(said)) return 'unbelievable';
  if (/spend_rate_limit|missing_billing|insufficient[_ ](credit|funds|balance)|lacks? credit/i.test(said))
    return 'billing';
  if (/no_such_instance|not_found|Instance \S+ not found/i.test(said)) return 'not_found';
  if (status === 401) return 'auth';
  if (/bid_too_low/.test(said)) return 'no_capacity';
  if (isRefusalOfRequest(said)) return 'invalid';
  if (status === 403 && isObject(reply.json)) return 'auth';
  // Redirects, pages of proxies, JSON of another shape: nobody said no.
  return call === 'purchase' ? 'unknown' : 'unbelievable';
}

/** `server_error` with a 4xx is how a missing image tag was answered. */
function isRefusalOfRequest(said: string): boolean {
  return /invalid_|label_too_long|no_ssh_key_for_vm|server_error|Please set a bid price/.test(said);
}
