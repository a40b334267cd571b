/**
 * Problems: every error becomes one RFC 9457 document here. What is no MusterError is a bug: the log gets all of it, the caller
 * gets a sentence and the request's id.
 */
import type { ErrorRequestHandler, Request } from 'express';
import type { z } from 'zod';
import { isConnectionError } from '../db/database.ts';
import { ERROR_TABLE, MusterError, type FieldError } from '../domain/error-table.ts';
import { PROBLEM_TYPE, type Problem } from './contract/problem.ts';

/** How long a caller should wait before a retryable error is tried again. */
const RETRY_AFTER_SECONDS = 1;
/** lock_not_available, serialization_failure, deadlock_detected: nothing was done, the same request may succeed. */
const TRANSIENT_SQL = new Set(['55P03', '40001', '40P01']);

/** Last in Express. The four parameters are how Express knows it. */
export const sendProblem: ErrorRequestHandler = (thrown: unknown, request, response, _next) => {
  const error = asMusterError(thrown);
  const { status } = ERROR_TABLE[error.code];
  if (error.code === 'internal') request.log.error({ err: thrown }, 'request failed');
  else if (status >= 500) request.log.warn({ err: error.cause ?? thrown, code: error.code }, 'request not served');
  if (response.headersSent) {
    response.destroy();
    return;
  }
  if (status === 401) response.setHeader('www-authenticate', 'Bearer');
  if ((status === 429 || status === 503) && !response.hasHeader('retry-after')) {
    response.setHeader('retry-after', String(RETRY_AFTER_SECONDS));
  }
  response
    .status(status)
    .type(PROBLEM_TYPE)
    .send(JSON.stringify(describeProblem(error, requestIdOf(request))));
};

export function describeProblem(error: MusterError, requestId: string): Problem {
  const { status, title } = ERROR_TABLE[error.code];
  return {
    ...jsonFacts(error.facts),
    type: `/api/v1/docs/errors#${error.code}`,
    title,
    status,
    code: error.code,
    detail: error.detail,
    ...(error.errors ? { errors: error.errors } : {}),
    requestId,
  };
}

/** The error for a body or query that its schema refused: every field with its path. */
export function invalidRequest(issues: readonly z.core.$ZodIssue[]): MusterError {
  const errors = issues.slice(0, 50).flatMap(describeIssue);
  const first = errors[0] as FieldError;
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : '';
  return new MusterError(
    'invalid_request',
    `${first.path === '' ? 'the request' : first.path} ${first.message}${more}`,
    { errors },
  );
}

function describeIssue(issue: z.core.$ZodIssue): FieldError[] {
  const path = issue.path.map(String).join('.');
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({ path: path === '' ? key : `${path}.${key}`, message: 'is not a known field' }));
  }
  if (issue.code === 'invalid_value') {
    return [{ path, message: `must be one of ${issue.values.map((value) => JSON.stringify(value)).join(', ')}` }];
  }
  if (issue.code === 'invalid_key') return issue.issues.map((inner) => ({ path, message: inner.message }));
  if (issue.code === 'invalid_type' && issue.input === undefined) return [{ path, message: 'is required' }];
  return [{ path, message: issue.message }];
}

function asMusterError(thrown: unknown): MusterError {
  if (thrown instanceof MusterError) return thrown;
  if (thrown instanceof URIError) return new MusterError('not_found', 'the path does not decode');
  if (isConnectionError(thrown))
    return new MusterError('unavailable', 'the database does not answer', { cause: thrown });
  if (TRANSIENT_SQL.has((thrown as { code?: string }).code ?? '')) {
    return new MusterError('unavailable', 'another request held what this one needs', { cause: thrown });
  }
  return new MusterError('internal', 'something went wrong here; the log has it under the request id', {
    cause: thrown,
  });
}

function jsonFacts(facts: Record<string, unknown> | undefined): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(facts ?? {}).map(([name, value]) => [name, typeof value === 'bigint' ? Number(value) : value]),
  );
}

export function requestIdOf(request: Request): string {
  return typeof request.id === 'string' ? request.id : '';
}
