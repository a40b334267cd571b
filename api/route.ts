/**
 * A route: method, path, who may call it, the schemas that validate and document it, and its handler. Every route of the API is
 * made by route(), so none is without an access rule or missing from openapi.json. mount.ts puts routes on Express.
 */
import type { Request, Response } from 'express';
import type { z } from 'zod';
import type { AccessRule } from '../domain/access.ts';
import type { Actor } from '../db/audit.ts';
import type { Tx } from '../db/database.ts';
import type { ErrorCode } from '../domain/error-table.ts';
import type { ApiContext } from './api-deps.ts';
import type { Caller } from './caller.ts';

export interface Answer {
  status: number;
  /** Absent: no body. */
  body?: unknown;
  /** Path of what was made or may be watched. */
  location?: string;
}

/** What a handler is given. */
export interface Call<Access extends AccessRule = AccessRule, Params = unknown, Query = unknown, Body = unknown> {
  caller: Access extends 'public' ? null : Caller;
  /** Who is written into the audit log. */
  actor: Actor;
  params: Params;
  query: Query;
  body: Body;
  requestId: string;
  deps: ApiContext;
  request: Request;
  response: Response;
  /**
   * Runs `work` in one transaction, once per Idempotency-Key. Only what spends or destroys uses it (`isIdempotent`). Inside,
   * every statement goes through `tx`: a second connection taken while one is held can starve the pool.
   */
  once(work: (tx: Tx) => Promise<Answer>): Promise<Answer>;
}

type Output<S> = S extends z.ZodType ? z.output<S> : undefined;

interface RouteSpec<
  Access extends AccessRule,
  Params extends z.ZodObject | undefined,
  Query extends z.ZodObject | undefined,
  Body extends z.ZodType | undefined,
> {
  method: 'get' | 'post' | 'patch' | 'delete';
  /** Below `/api/v1`, unless `isTopLevel`; parameters as `:id`. */
  path: string;
  isTopLevel?: boolean;
  /** Another path to the same route. */
  alias?: string;
  access: Access;
  area: string;
  summary: string;
  description?: string;
  /** An id of another shape answers 404, so these never answer 422. */
  params?: Params;
  query?: Query;
  body?: Body;
  /** A request without a body is one with an empty object. */
  isBodyOptional?: boolean;
  /** Spends or destroys: takes an Idempotency-Key. */
  isIdempotent?: boolean;
  /** Schema of each success, by status; null: no body; a media type: text of that type. */
  replies: Record<number, z.ZodType | `${string}/${string}` | null>;
  /** Codes beyond those that every route of its kind can answer. */
  problems?: readonly ErrorCode[];
  /** undefined: the handler has written the response itself (a stream). */
  handle(call: Call<Access, Output<Params>, Output<Query>, Output<Body>>): Promise<Answer | undefined>;
}

/** A route whose types are forgotten: what mount.ts and openapi.ts work with. */
export interface Route extends Omit<
  RouteSpec<AccessRule, z.ZodObject | undefined, z.ZodObject | undefined, z.ZodType | undefined>,
  'handle'
> {
  handle(call: Call): Promise<Answer | undefined>;
}

export function route<
  const Access extends AccessRule,
  Params extends z.ZodObject | undefined = undefined,
  Query extends z.ZodObject | undefined = undefined,
  Body extends z.ZodType | undefined = undefined,
>(spec: RouteSpec<Access, Params, Query, Body>): Route {
  return spec;
}

export const API_PREFIX = '/api/v1';

/** Full paths of the route, parameters as `:id`. */
export function pathsOf(one: Route): string[] {
  const prefix = one.isTopLevel ? '' : API_PREFIX;
  return [one.path, ...(one.alias === undefined ? [] : [one.alias])].map((path) => `${prefix}${path}`);
}
