/** Workspaces and their snapshots on the wire. */
import { z } from 'zod';
import { DEFAULT_KEEP, SNAPSHOT_ACTIONS, SNAPSHOT_CAUSES, SNAPSHOT_STATUSES } from '../../domain/snapshots/snapshot.ts';
import { STORE_KINDS } from '../../domain/snapshots/store.ts';
import { operationRef } from './operations.ts';
import { commaList, duration, id, microUsd, pageOf, pageQuery, time } from './values.ts';

const MIN_EVERY_MS = 30_000;
const MAX_EVERY_MS = 30 * 86_400_000;
const MAX_KIB = 10_000_000;

const keepCount = z.int().min(0).max(1_000);
const keepPolicy = z
  .strictObject({
    last: z.int().min(1).max(1_000).default(DEFAULT_KEEP.last),
    daily: keepCount.default(DEFAULT_KEEP.daily),
    weekly: keepCount.default(DEFAULT_KEEP.weekly),
  })
  .meta({
    description:
      'How many snapshots stay: the newest ones, and the newest of each day and week (UTC). The last verified one always does',
  });

const rateLimit = z.int().min(1).max(MAX_KIB).nullable().meta({ description: 'KiB a second; null: no limit' });

const changeable = {
  snapshotEvery: duration(MIN_EVERY_MS, MAX_EVERY_MS, 'from 30 seconds to 30 days').nullable().optional().meta({
    description: 'The promised age of the newest verified snapshot; null: snapshots on request only',
  }),
  keep: keepPolicy.optional(),
  excludes: z
    .array(
      z
        .string()
        .min(1)
        .max(500)
        // oxlint-disable-next-line no-control-regex
        .regex(/^[^\x00-\x1f]+$/, 'must not contain control characters'),
    )
    .max(100)
    .optional()
    .meta({ description: "What is left out, as patterns of restic's --exclude" }),
  uploadLimitKib: rateLimit.optional(),
  downloadLimitKib: rateLimit.optional(),
};

export const workspaceWish = z
  .strictObject({
    path: z
      .string()
      .max(500)
      .regex(/^\/[A-Za-z0-9._/-]*[A-Za-z0-9._-]$/, 'must be an absolute path without blanks')
      .refine((path) => !path.split('/').some((part) => part === '..' || part === '.'), 'must not contain . or ..')
      .optional()
      .meta({ description: 'The folder on the machine. Default: /workspace' }),
    ...changeable,
  })
  .meta({ id: 'WorkspaceWish' });
export type WorkspaceWishBody = z.output<typeof workspaceWish>;

export const changeWorkspaceBody = z.strictObject(changeable).meta({ id: 'ChangeWorkspace' });

export const workspace = z
  .object({
    instanceId: id('instance'),
    path: z.string(),
    epoch: z.int().meta({ description: 'Raised whenever the writer changes: who has an older one is fenced' }),
    writer: z.object({ attemptId: id('attempt').nullable(), standbyId: z.string().nullable() }).nullable(),
    snapshotEveryMs: z.int().nullable(),
    behindSince: time.nullable().meta({ description: 'Since when the promise is not kept; null: it is' }),
    keep: z.object({ last: z.int(), daily: z.int(), weekly: z.int() }),
    excludes: z.array(z.string()),
    uploadLimitKib: z.int().nullable(),
    downloadLimitKib: z.int().nullable(),
    store: z.enum(STORE_KINDS).nullable().meta({ description: 'null: nothing is stored yet' }),
    storedBytes: z.int().nullable().meta({ description: 'What its repository takes; null: not known yet' }),
    storageMicroUsdPerMonth: microUsd.nullable().meta({ description: "At the store's list price" }),
    lastVerifiedSnapshotId: id('snapshot').nullable(),
    recoveryPointAt: time
      .nullable()
      .meta({ description: 'Nothing older than this would be lost; null: nothing is safe' }),
    createdAt: time,
  })
  .meta({ id: 'Workspace', description: 'The files of an instance that outlive its machine' });
export type Workspace = z.infer<typeof workspace>;

export const snapshot = z
  .object({
    id: id('snapshot'),
    instanceId: id('instance'),
    nodeId: id('node'),
    status: z.enum(SNAPSHOT_STATUSES),
    allowedActions: z.array(z.enum(SNAPSHOT_ACTIONS)),
    cause: z.enum(SNAPSHOT_CAUSES),
    epoch: z.int(),
    operationId: id('operation').nullable(),
    files: z.int().nullable().meta({ description: 'Regular files' }),
    bytes: z.int().nullable().meta({ description: 'Of those files' }),
    addedBytes: z.int().nullable().meta({ description: 'What was not in the repository before' }),
    verifiedFiles: z.int().nullable(),
    verifiedBytes: z.int().nullable().meta({ description: 'Read back from the store by the control plane' }),
    dataAt: time.nullable().meta({ description: 'Whatever was written before this is in it' }),
    takenAt: time.nullable(),
    verifiedAt: time.nullable(),
    deletedAt: time.nullable(),
    failureCode: z.string().nullable(),
    failureDetail: z.string().nullable(),
    createdAt: time,
  })
  .meta({ id: 'Snapshot', description: 'What a workspace was at one moment' });
export type Snapshot = z.infer<typeof snapshot>;

export const snapshotPage = pageOf(snapshot).meta({ id: 'SnapshotPage' });
export const snapshotListQuery = pageQuery.extend({
  instanceId: id('instance').optional(),
  status: commaList(SNAPSHOT_STATUSES).optional(),
});
export const snapshotAccepted = z.object({ operation: operationRef, snapshot }).meta({ id: 'SnapshotAccepted' });
export type SnapshotAccepted = z.infer<typeof snapshotAccepted>;

export const restoreBody = z
  .strictObject({
    snapshotId: id('snapshot').optional().meta({ description: 'Default: the newest verified one of the instance' }),
    nodeId: id('node').optional().meta({ description: "Default: the instance's machine" }),
  })
  .meta({ id: 'Restore' });
