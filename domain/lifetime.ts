/**
 * A lifetime: how long an instance may live from the moment its request was accepted; a hard stop. Default and maximum are the
 * deployment's; going beyond needs the operator role and a reason, which is audited.
 */
import type { Role } from './access.ts';
import { formatDuration } from './duration.ts';
import { MusterError } from './error-table.ts';

export interface Lifetime {
  /** null: unbounded. */
  lifetimeMs: number | null;
  /** Set only where the maximum is exceeded. */
  overrideReason: string | null;
}

export interface LifetimeRules {
  /** Default and hard maximum of the deployment. */
  maxLifetimeMs: number;
  role: Role;
  /** undefined or blank: none was given. */
  overrideReason: string | null | undefined;
  /** The field of the request, for the error. @default 'maxLifetime' */
  path?: string;
}

/**
 * What a request gets. `undefined` means the default, `null` unbounded. A reason within the maximum is not needed and not kept.
 * @throws MusterError `forbidden` beyond the maximum without the role, `invalid_request` without a reason or not above 0
 */
export function resolveLifetime(requestedMs: number | null | undefined, rules: LifetimeRules): Lifetime {
  const path = rules.path ?? 'maxLifetime';
  const lifetimeMs = requestedMs === undefined ? rules.maxLifetimeMs : requestedMs;
  if (lifetimeMs !== null && !(lifetimeMs > 0)) {
    throw invalid(path, `must be longer than 0, got ${lifetimeMs} ms`);
  }
  if (lifetimeMs !== null && lifetimeMs <= rules.maxLifetimeMs) return { lifetimeMs, overrideReason: null };
  const wanted = lifetimeMs === null ? 'An unbounded lifetime' : `A lifetime of ${formatDuration(lifetimeMs)}`;
  const beyond = `${wanted} is beyond the maximum of ${formatDuration(rules.maxLifetimeMs)}`;
  if (rules.role !== 'operator' && rules.role !== 'owner') {
    throw new MusterError('forbidden', `${beyond}; only an operator or owner may ask for it`);
  }
  const reason = rules.overrideReason?.trim() ?? '';
  if (reason === '') throw invalid('overrideReason', `is needed: ${beyond.toLowerCase()}`);
  return { lifetimeMs, overrideReason: reason };
}

/** The whole lifetime after an extension; it is judged like a requested one. An unbounded instance stays so. */
export function extendedLifetimeMs(acceptedAt: number, expiresAt: number | null, byMs: number): number | null {
  return expiresAt === null ? null : expiresAt - acceptedAt + byMs;
}

/** Expired from the very moment on. */
export function isExpired(expiresAt: number | null, now: number): boolean {
  return expiresAt !== null && expiresAt <= now;
}

function invalid(path: string, message: string): MusterError {
  return new MusterError('invalid_request', `${path} ${message}`, { errors: [{ path, message }] });
}
