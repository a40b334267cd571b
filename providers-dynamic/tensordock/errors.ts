/** What TensorDock's refusals mean. All sniffing of the vendor's texts happens in `classifyTensordockError`. */
import { ProviderError, type ProviderErrorKind } from '../../domain/provider-error.ts';
import { excerptOf, isObject, type HttpReply } from '../http.ts';
import type { CallKind } from '../vendor-sender.ts';
import { number, text } from './wire-value.ts';

/** A refusal in the vendor's own words. */
interface VendorWords {
  said: string;
  /** The status that the body claims; the HTTP status is often 200. null: it claims none. */
  status: number | null;
  /** Last parts of the paths that a validation complains about; null: it is no validation. */
  fields: string[] | null;
  /** A "message" and nothing that says error: with a good HTTP status it is none. */
  isMessageOnly: boolean;
}

/**
 * Whether the body is an error, whatever its HTTP status: the vendor answers `200 {"error":…,"status":400}` too.
 * An instance's own `status` is a word, so a number is a claim.
 */
export function isErrorBody(body: unknown): boolean {
  const words = readWords(body);
  return words !== null && !words.isMessageOnly;
}

/** The error of an answer that is not the one wanted: a status that is no success, an error body, or a body that is no JSON. */
export function classifyTensordockError(call: CallKind, reply: HttpReply): ProviderError {
  const words = readWords(reply.json);
  const status = reply.status >= 300 ? reply.status : (words?.status ?? (words === null ? reply.status : 400));
  const createdInstanceId = call === 'purchase' && words !== null ? idIn(reply.json) : null;
  const kind = createdInstanceId === null ? kindOf(call, status, words) : 'no_capacity';
  const said = excerptOf(words?.said ?? reply.text.slice(0, 500));
  const claim = status === reply.status ? '' : ` (in a body of ${reply.status})`;
  const retryAfterMs = status === 429 ? readRetryAfter(reply.headers) : null;
  return new ProviderError(kind, `TensorDock answered ${status}${claim}: ${said}`, {
    httpStatus: status,
    ...(createdInstanceId === null ? {} : { createdInstanceId }),
    ...(retryAfterMs === null ? {} : { retryAfterMs }),
  });
}

function kindOf(call: CallKind, status: number, words: VendorWords | null): ProviderErrorKind {
  const said = words?.said ?? '';
  if (status === 401) return 'auth';
  if (status === 429 || /too many requests|rate limit/i.test(said))
    return call === 'purchase' ? 'unknown' : 'rate_limited';
  if (status >= 500 || status === 408) return call === 'read' ? 'retryable' : 'unknown';
  // Redirects, pages of proxies, JSON of another shape: nobody said no.
  if (words === null) return call === 'purchase' ? 'unknown' : 'unbelievable';
  if (status === 403) return 'auth';
  if (
    /need at least \$|insufficient (?:funds|balance|credit)|balance|quota|maximum (?:number of )?instances/i.test(said)
  )
    return 'billing';
  if (call === 'purchase') return kindOfRefusedPurchase(status, words);
  if (isUnknownRoute(said)) return 'unbelievable';
  if (status === 404 || /(?:instance|machine|server) (?:was )?not found|no such instance/i.test(said))
    return 'not_found';
  if (call === 'read') return 'unbelievable';
  // In conflict with what the machine is doing just now.
  if (status === 409 || /must be stopped|is (?:stopping|starting)/i.test(said)) return 'retryable';
  return isOutOfStock(said) ? 'no_capacity' : 'invalid';
}

function kindOfRefusedPurchase(status: number, { said, fields }: VendorWords): ProviderErrorKind {
  // A host or location that is not (or no longer) there is the offer's fault, not the request's.
  if (fields !== null)
    return fields.some((field) => /^(?:hostnode|location)_id$/.test(field)) ? 'no_capacity' : 'invalid';
  if (isOutOfStock(said) || (status === 404 && /host|node|location/i.test(said))) return 'no_capacity';
  // The vendor speaks of its own trouble, or of a conflict with something under way: it may have made the machine.
  if (status === 409 || /internal|timed? ?out|try again|unexpected/i.test(said)) return 'unknown';
  return isUnknownRoute(said) ? 'unknown' : 'invalid';
}

function isOutOfStock(said: string): boolean {
  return /unavailable|not available|no available|no longer available|no free|not enough|insufficient|out of stock|sold out|no capacity|at capacity|cannot (?:be )?allocate|exceeds? (?:the )?available|under maintenance/i.test(
    said,
  );
}

/** What a wrong address answers: another server, or an API that has no such endpoint. It says nothing about an instance. */
function isUnknownRoute(said: string): boolean {
  return /route|endpoint|cannot (?:get|post|put|delete) \/|page not found/i.test(said);
}

function readWords(body: unknown): VendorWords | null {
  if (Array.isArray(body)) return readValidation(body);
  if (!isObject(body)) return null;
  const status = number(typeof body.status === 'number' ? body.status : body.statusCode);
  const isRefusal = status !== null && status >= 400;
  if (Array.isArray(body.error)) return readValidation(body.error);
  const nested = isObject(body.error) ? text(body.error.message) : null;
  const error = nested ?? text(body.error) ?? (body.success === false ? 'success: false' : null);
  const message = text(body.message);
  // Instances and lists have neither "error" nor a "message" of their own.
  const isBareMessage = message !== null && body.data === undefined && body.id === undefined;
  if (error === null && !isRefusal && !isBareMessage) return null;
  const said = [error, message === error ? null : message].filter((part) => part !== null).join(': ');
  return { said, status: isRefusal ? status : null, fields: null, isMessageOnly: error === null && !isRefusal };
}

/** `[{"code":"invalid_type","message":…,"path":["data","attributes","resources"]}]` */
function readValidation(issues: unknown[]): VendorWords | null {
  const texts: string[] = [];
  const fields: string[] = [];
  for (const issue of issues) {
    const message = isObject(issue) ? text(issue.message) : null;
    if (!isObject(issue) || message === null) return null;
    const path = Array.isArray(issue.path) ? issue.path.map(String) : [];
    texts.push(path.length === 0 ? message : `${path.join('.')}: ${message}`);
    fields.push(path.at(-1) ?? '');
  }
  return texts.length === 0 ? null : { said: texts.join('; '), status: 400, fields, isMessageOnly: false };
}

function idIn(body: unknown): string | null {
  if (!isObject(body)) return null;
  return text(isObject(body.data) ? body.data.id : body.id);
}

/** The names of the vendor's rate-limit headers are not documented; these are the usual ones. null: it does not say. */
function readRetryAfter(headers: Headers): number | null {
  const after = headers.get('retry-after');
  const reset = number(headers.get('x-ratelimit-reset'));
  const seconds = number(after) ?? (after === null ? null : (Date.parse(after) - Date.now()) / 1_000);
  if (seconds !== null && Number.isFinite(seconds)) return bounded(seconds);
  if (reset === null) return null;
  // Seconds from now, or since 1970.
  return bounded(reset > 1_000_000_000 ? reset - Date.now() / 1_000 : reset);
}

/** The limit is one of a minute: nobody is kept waiting longer than two. */
function bounded(seconds: number): number {
  return Math.min(120_000, Math.max(0, Math.ceil(seconds * 1_000)));
}

export function unbelievable(message: string): ProviderError {
  return new ProviderError('unbelievable', `TensorDock: ${message}`);
}
