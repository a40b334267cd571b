/** The simulated vendor's answers of refusal, in its own words and codes. */
import type { HttpReply } from '../http-listener.ts';
import { VendorRefusal } from '../rental/api.ts';

export function errorReply(status: number, code: string, message: string, suggestion?: string): HttpReply {
  const error = suggestion === undefined ? { code, message } : { code, message, suggestion };
  return { status, body: { error } };
}

export const INVALID_API_KEY = errorReply(
  401,
  'global/invalid-api-key',
  'API key was invalid, expired, or deleted.',
  'Check your API key or create a new one, then try again.',
);
export const NO_CAPACITY = errorReply(
  400,
  'instance-operations/launch/insufficient-capacity',
  'Not enough capacity to fulfill launch request.',
);
export const QUOTA_EXCEEDED = errorReply(
  400,
  'global/quota-exceeded',
  'Quota exceeded.',
  'Contact Support to increase your quota.',
);
/** The code is inferred: only the status is documented. */
export const TOO_MANY_REQUESTS = errorReply(429, 'global/too-many-requests', 'Too many requests.');
export const OUTAGE = errorReply(503, 'provider/internal-unavailable', 'Simulated outage.');
export const ACCOUNT_INACTIVE = errorReply(
  403,
  'global/account-inactive',
  'Your account is inactive.',
  'Make sure you have verified your email address and have a valid payment method. Contact Support if problems continue.',
);

export function invalidParameters(message: string): VendorRefusal {
  return new VendorRefusal(errorReply(400, 'global/invalid-parameters', message));
}

export function notThere(what: string): VendorRefusal {
  return new VendorRefusal(errorReply(404, 'global/object-does-not-exist', `Specified ${what} does not exist.`));
}

/** Of what a launch names, and of firewall rulesets: there advice always comes with it. */
export function notThereWithAdvice(what: string): VendorRefusal {
  const message = `Specified ${what} does not exist.`;
  return new VendorRefusal(
    errorReply(404, 'global/object-does-not-exist', message, `Check the ${what} and try again.`),
  );
}

export function refused(status: number, code: string, message: string, suggestion?: string): VendorRefusal {
  return new VendorRefusal(errorReply(status, code, message, suggestion));
}
