/**
 * The tokens by which a node reaches the repository of one workspace through us: short-lived, for one workspace and epoch, for reading or
 * for adding. Only digests are kept.
 */
import { createHash, randomBytes } from 'node:crypto';
import { sql } from 'kysely';
import type { Executor, Tx } from './database.ts';

export const REPOSITORY_TOKEN_PREFIX = 'mw_';

export function hashRepositoryToken(token: string): Buffer {
  return createHash('sha256').update(token, 'utf8').digest();
}

export interface NewRepositoryToken {
  instanceId: string;
  nodeId: string;
  epoch: number;
  /** Of the repository. */
  generation: number;
  access: 'read' | 'write';
  operationId: string;
  lifetimeMs: number;
}

/** Of a workspace's folder at its store. */
export function repositoryName({ instance_id: id, generation }: { instance_id: string; generation: number }): string {
  return generation === 1 ? id : `${id}-${generation}`;
}

/** @returns the token, shown only now */
export async function insertRepositoryToken(tx: Tx, token: NewRepositoryToken): Promise<string> {
  const secret = `${REPOSITORY_TOKEN_PREFIX}${randomBytes(32).toString('base64url')}`;
  await tx
    .insertInto('repository_tokens')
    .values({
      token_hash: hashRepositoryToken(secret),
      instance_id: token.instanceId,
      node_id: token.nodeId,
      epoch: token.epoch,
      generation: token.generation,
      access: token.access,
      operation_id: token.operationId,
      expires_at: sql<Date>`now() + ${token.lifetimeMs} * interval '1 millisecond'`,
    })
    .execute();
  return secret;
}

/** What was made for an operation opens nothing from now on. */
export async function revokeRepositoryTokens(executor: Executor, operationId: string): Promise<void> {
  await executor
    .updateTable('repository_tokens')
    .set({ revoked_at: sql<Date>`now()` })
    .where('operation_id', '=', operationId)
    .where('revoked_at', 'is', null)
    .execute();
}

export interface RepositoryAccess {
  instanceId: string;
  nodeId: string;
  access: 'read' | 'write';
  /** Where its data lies. */
  storeUrl: string;
  /** Of the repository, below that. */
  repository: string;
}

export type AccessOutcome =
  | { kind: 'open'; access: RepositoryAccess }
  | { kind: 'refused'; reason: 'unknown' | 'expired' | 'revoked' | 'fenced' | 'other_workspace' | 'not_made' };

/** @param instanceId the workspace that is asked for */
export async function openRepository(
  executor: Executor,
  token: string,
  instanceId: string,
  options: { isLocked?: boolean } = {},
): Promise<AccessOutcome> {
  let query = executor
    .selectFrom('repository_tokens as t')
    .innerJoin('workspaces as w', 'w.instance_id', 't.instance_id')
    .select([
      't.instance_id',
      't.generation',
      't.node_id',
      't.epoch',
      't.access',
      't.revoked_at',
      'w.epoch as now_epoch',
      'w.store_url',
    ])
    .select(sql<boolean>`t.expires_at <= now()`.as('is_expired'))
    .where('t.token_hash', '=', hashRepositoryToken(token));
  // Against setWriter: while this transaction lasts the epoch does not change.
  if (options.isLocked === true) query = query.forShare('w');
  const row = await query.executeTakeFirst();
  if (!row) return { kind: 'refused', reason: 'unknown' };
  if (row.instance_id !== instanceId) return { kind: 'refused', reason: 'other_workspace' };
  if (row.revoked_at !== null) return { kind: 'refused', reason: row.epoch < row.now_epoch ? 'fenced' : 'revoked' };
  if (row.is_expired) return { kind: 'refused', reason: 'expired' };
  if (row.access === 'write' && row.epoch !== row.now_epoch) return { kind: 'refused', reason: 'fenced' };
  if (row.store_url === null) return { kind: 'refused', reason: 'not_made' };
  return {
    kind: 'open',
    access: {
      instanceId,
      nodeId: row.node_id,
      access: row.access,
      storeUrl: row.store_url,
      repository: repositoryName(row),
    },
  };
}
