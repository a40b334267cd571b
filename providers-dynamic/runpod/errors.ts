/** What RunPod's refusals mean. All sniffing of the vendor's texts happens in `classifyRunpodError`. */
import { ProviderError, type ProviderErrorKind } from '../../domain/provider-error.ts';
import { excerptOf, isObject, type HttpReply } from '../http.ts';
import type { CallKind } from '../vendor-sender.ts';
import { waitOfRefusal } from './rate-limits.ts';
import { text } from './wire.ts';

/**
 * The error of an answer that is not the one wanted. A definite refusal is the vendor's problem document (RFC 9457: `status`
 * as answered, and `detail`); a purchase refused in any other form is `unknown`.
 */
export function classifyRunpodError(call: CallKind, reply: HttpReply): ProviderError {
  const problem = readProblem(reply);
  const said = problem === null ? reply.text.slice(0, 500) : [problem.detail, ...problem.errors].join('; ');
  const retryAfterMs = reply.status === 429 ? waitOfRefusal(reply.headers) : undefined;
  return new ProviderError(kindOf(call, reply.status, problem), `RunPod answered ${reply.status}: ${excerptOf(said)}`, {
    httpStatus: reply.status,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

interface Problem {
  detail: string;
  errors: string[];
}

function kindOf(call: CallKind, status: number, problem: Problem | null): ProviderErrorKind {
  if (status === 401) return 'auth';
  if (status === 429) return call === 'purchase' ? 'unknown' : 'rate_limited';
  if (status >= 500) return call === 'read' ? 'retryable' : 'unknown';
  // Redirects, pages of proxies, JSON of another shape: nobody said no.
  if (problem === null) return call === 'purchase' ? 'unknown' : 'unbelievable';
  switch (status) {
    case 400:
      return kindOfBadRequest(call, problem.detail);
    case 402:
      return 'billing';
    case 403:
      // "No access to the pool" for a purchase; for anything else the key is too weak.
      return call === 'purchase' ? 'no_capacity' : 'auth';
    case 404:
      return call === 'purchase' ? 'invalid' : isAbsence(problem.detail) ? 'not_found' : 'unbelievable';
    case 405:
      return call === 'purchase' ? 'invalid' : 'unbelievable';
    case 409:
      // Not valid for the status of the moment, locked, or changed by another: nothing was done.
      return call === 'purchase' ? 'unknown' : 'retryable';
    case 422:
      return 'invalid';
    default:
      return call === 'purchase' ? 'unknown' : 'unbelievable';
  }
}

/**
 * 400 is both "your request breaks a rule" and "no capacity", and no field tells which. For a purchase only words that speak of
 * the request itself make it ours; everything else is taken for no capacity, as the vendor advises: the next candidate is asked,
 * and when all were refused the caller shows these texts. Taking a missing GPU for our mistake would end what another offer
 * can serve. Starting a stopped pod is refused for want of a GPU too.
 */
function kindOfBadRequest(call: CallKind, detail: string): ProviderErrorKind {
  if (/\b(no longer|available|availability|capacity|enough|stock|placed)\b/i.test(detail)) return 'no_capacity';
  if (call !== 'purchase') return 'invalid';
  const isOurs =
    /mutually exclusive|\b(exactly|at most|only) one of\b|malformed|\bmust (be|not|have|set|match|contain|include)\b|\bis required\b/i;
  return isOurs.test(detail) ? 'invalid' : 'no_capacity';
}

/** "pod not found", "The requested Pod does not exist.": a path that is not there says neither of a pod. */
function isAbsence(detail: string): boolean {
  return (
    /\b(pod|resource)\b/i.test(detail) &&
    /not found|(does not|doesn't|no longer) exist/i.test(detail) &&
    !/\b(route|path|url|endpoint)\b/i.test(detail)
  );
}

/** null: this is not the vendor's own refusal. */
function readProblem(reply: HttpReply): Problem | null {
  if (!isObject(reply.json) || reply.json.status !== reply.status) return null;
  const detail = text(reply.json.detail);
  if (detail === null) return null;
  const errors = Array.isArray(reply.json.errors) ? reply.json.errors.filter((each) => typeof each === 'string') : [];
  return { detail, errors };
}
