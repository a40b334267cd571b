/** Bodies of the CLI's requests, as observed with the pinned engine (state-service facts in docs/state-service.md). */
import { z } from 'zod';
import { JOURNAL_KINDS } from '../../domain/state/journal.ts';

const NAME = /^[A-Za-z0-9_.-]{1,100}$/;
export const stateName = z.string().regex(NAME, 'must be 1 to 100 letters, digits, "_", "." or "-"');

const tags = z.record(z.string().max(256), z.string().max(4096));
const base64 = z.base64();
const resource = z.looseObject({ urn: z.string().min(1), type: z.string() });
const deployment = z.looseObject({
  resources: z.array(resource).nullish(),
  pending_operations: z.array(z.looseObject({ resource, type: z.string() })).nullish(),
  secrets_providers: z.looseObject({ type: z.string(), state: z.unknown() }).nullish(),
});

const SCHEMA_VERSIONS = [3, 4] as const;
/** What is exported comes back in an import; null stands for the state of a stack that never held anything. */
export const versionedDeployment = z.object({
  version: z.literal(SCHEMA_VERSIONS, {
    error: `must be ${SCHEMA_VERSIONS.join(' or ')}: export it with a newer engine`,
  }),
  features: z.array(z.string()).nullish(),
  deployment: deployment.nullish(),
});

export const createStackBody = z.looseObject({
  stackName: stateName,
  tags: tags.nullish(),
  state: versionedDeployment.nullish(),
});

export const configValue = z.object({
  string: z.string().default(''),
  secret: z.boolean().default(false),
  object: z.boolean().default(false),
});

export const createUpdateBody = z.looseObject({
  options: z.looseObject({ dryRun: z.boolean().nullish() }).nullish(),
  config: z.record(z.string(), configValue).nullish(),
  metadata: z
    .looseObject({ message: z.string().nullish(), environment: z.record(z.string(), z.string()).nullish() })
    .nullish(),
});

export const startUpdateBody = z.looseObject({ tags: tags.nullish(), journalVersion: z.int().min(0).nullish() });
export const renewBody = z.looseObject({ duration: z.number().positive() });
export const completeBody = z.looseObject({ status: z.enum(['succeeded', 'failed']) });
export const encryptBody = z.looseObject({ plaintext: base64 });
export const decryptBody = z.looseObject({ ciphertext: base64 });
export const batchEncryptBody = z.looseObject({ plaintexts: z.array(base64).max(100_000) });
export const batchDecryptBody = z.looseObject({ ciphertexts: z.array(base64).max(100_000) });
export const renameBody = z.looseObject({
  newName: stateName.or(z.literal('')).nullish(),
  newProject: stateName.or(z.literal('')).nullish(),
});
export const tagsBody = tags;

export const checkpointBody = z.looseObject({
  isInvalid: z.boolean().nullish(),
  version: z.literal(SCHEMA_VERSIONS),
  features: z.array(z.string()).nullish(),
  deployment: deployment.nullish(),
});

const count = z.int().min(0);
const index = count.nullish();
/** Strict: an entry of a kind, version or with a member that we do not know would be replayed wrongly, so it is refused. */
export const journalEntry = z.strictObject({
  version: z.literal(1, { error: 'only journal version 1 is known' }),
  kind: z
    .int()
    .min(0)
    .max(JOURNAL_KINDS.length - 1, `only the kinds 0 to ${JOURNAL_KINDS.length - 1} are known`),
  sequenceID: z.int().min(1),
  operationID: z.int(),
  removeOld: index,
  removeNew: index,
  pendingReplacementOld: index,
  pendingReplacementNew: index,
  deleteOld: index,
  deleteNew: index,
  state: resource.nullish(),
  operation: z.looseObject({ resource, type: z.string() }).nullish(),
  isRefresh: z.boolean().nullish(),
  secretsProvider: z.looseObject({ type: z.string(), state: z.unknown() }).nullish(),
  newSnapshot: deployment.nullish(),
  snippets: z.array(z.looseObject({})).nullish(),
  extensionRef: z.string().nullish(),
  extension: z.unknown().optional(),
  requiresByteString: z.boolean().nullish(),
});
export const journalBody = z.looseObject({ entries: z.array(journalEntry).max(10_000).nullish() });

export const eventsBody = z.looseObject({
  events: z
    .array(z.looseObject({ sequence: z.int(), timestamp: z.number().nullish() }))
    .max(1_000)
    .nullish(),
});
