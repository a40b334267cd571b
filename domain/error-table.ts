/**
 * The one error table: every code a caller can meet, with its HTTP status, title and whether the same request may succeed
 * later. HTTP replies, operation failures, the CLI's exit codes and docs/errors.md are all made from it.
 */
export const ERROR_TABLE = {
  malformed_request: { status: 400, title: 'Malformed request', retryable: false },
  unauthenticated: { status: 401, title: 'Not authenticated', retryable: false },
  forbidden: { status: 403, title: 'Not allowed', retryable: false },
  registration_closed: { status: 403, title: 'Registration is not open', retryable: false },
  not_found: { status: 404, title: 'Not found', retryable: false },
  method_not_allowed: { status: 405, title: 'Method not allowed', retryable: false },
  conflict: { status: 409, title: 'Conflict with the current state', retryable: false },
  plan_changed: { status: 409, title: 'The plan is no longer what was quoted', retryable: false },
  idempotency_key_reused: { status: 409, title: 'Idempotency key reused with another body', retryable: false },
  idempotency_in_progress: { status: 409, title: 'The first request with this key is still running', retryable: true },
  body_too_large: { status: 413, title: 'Body too large', retryable: false },
  unsupported_media_type: { status: 415, title: 'Unsupported media type', retryable: false },
  invalid_request: { status: 422, title: 'Invalid request', retryable: false },
  rate_limited: { status: 429, title: 'Too many requests', retryable: true },
  internal: { status: 500, title: 'Internal error', retryable: false },
  unavailable: { status: 503, title: 'Temporarily unavailable', retryable: true },
  no_capacity: { status: 507, title: 'No capacity', retryable: true },
  cap_exceeded: { status: 507, title: 'A cap of the deployment would be exceeded', retryable: false },
  policy_violated: { status: 422, title: 'A policy would be broken', retryable: false },
  stack_refused: { status: 422, title: 'The program or the cloud refuses this configuration', retryable: false },
  stack_protected: { status: 409, title: 'The stack is protected', retryable: false },
  cluster_refused: { status: 422, title: 'The cluster does not take this kubeconfig', retryable: false },
  cluster_unreachable: { status: 503, title: 'The cluster does not answer', retryable: true },
  // Failures of operations. They have a status too, for a request that waits for its operation.
  boot_timeout: { status: 507, title: 'No machine became ready in time', retryable: true },
  boot_failed: { status: 507, title: 'The machine did not come up', retryable: true },
  agent_not_registered: { status: 507, title: 'The agent on the machine never registered', retryable: true },
  wrong_hardware: { status: 507, title: 'The machine is not what was promised', retryable: true },
  provider_auth: { status: 503, title: 'The provider refused our credentials', retryable: false },
  provider_unavailable: { status: 503, title: 'The provider does not answer as it should', retryable: true },
  provider_quarantined: { status: 503, title: "The provider's listing is not believed", retryable: true },
  engine_unavailable: { status: 503, title: 'The engine is not available', retryable: true },
  stack_failed: { status: 503, title: 'The update of the stack did not end well', retryable: true },
  engine_failed: { status: 500, title: 'The engine failed', retryable: false },
  lost: { status: 503, title: 'The machine vanished at the provider', retryable: false },
  snapshot_failed: { status: 503, title: 'The snapshot was not taken or not verified', retryable: true },
  snapshot_store_unreachable: { status: 409, title: 'The node cannot reach the snapshot store', retryable: true },
  restore_failed: { status: 503, title: 'The files could not be restored', retryable: true },
  drill_failed: { status: 503, title: 'The drill missed a target or was not run to its end', retryable: false },
  interrupted: { status: 503, title: 'The provider took the machine away', retryable: true },
  powered_off: { status: 503, title: 'The machine switched itself off', retryable: true },
  expired: { status: 409, title: 'The lifetime has ended', retryable: false },
  canceled: { status: 409, title: 'Canceled', retryable: false },
} as const satisfies Record<string, { status: number; title: string; retryable: boolean }>;

export type ErrorCode = keyof typeof ERROR_TABLE;

export const ERROR_CODES = Object.keys(ERROR_TABLE) as ErrorCode[];

/** One thing wrong with one field of the input. `path` is dotted ("sshPublicKeys.0"); empty for the whole body. */
export interface FieldError {
  path: string;
  message: string;
}

/** An error with a code of the table. `detail` is for the caller to read; the cause is for the log only. */
export class MusterError extends Error {
  readonly code: ErrorCode;
  readonly detail: string;
  readonly errors: FieldError[] | undefined;
  /** Extra members of the problem document, such as the numbers of an exceeded cap. Never secrets. */
  readonly facts: Record<string, unknown> | undefined;

  constructor(
    code: ErrorCode,
    detail: string,
    options: { errors?: FieldError[]; facts?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'MusterError';
    this.code = code;
    this.detail = detail;
    this.errors = options.errors;
    this.facts = options.facts;
  }
}
