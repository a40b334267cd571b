/**
 * Where generated programs run: one database, one state service, one simulated provider, one language host, and the engine's CLI and its own
 * replayer beside them.
 */
import { randomUUID } from 'node:crypto';
import { findEngineStack, readStateVersion } from '../../db/state-stacks.ts';
import { readCurrentState, readJournal } from '../../db/state-updates.ts';
import { emptyDeployment, type VersionedDeployment } from '../../domain/state/deployment.ts';
import { JOURNAL_KINDS, replayJournal, type JournalEntry } from '../../domain/state/journal.ts';
import { openStackKey, type StackCipher } from '../../secrets/stack-key.ts';
import { openStateHome, type StateHome } from '../support/state-home.ts';
import { comparable } from './compare.ts';
import { openEngineCli, type CliResult, type CliRun, type EngineCli } from './engine-cli.ts';
import { startGoReplayer, type GoReplayer } from './go-replayer.ts';
import type { Command, Update } from './program.ts';
import { startSimLanguage, type SimLanguage } from './sim-language.ts';
import { startSimProvider, type SimProvider } from './sim-provider.ts';

export interface Laboratory {
  home: StateHome;
  provider: SimProvider;
  language: SimLanguage;
  cli: EngineCli;
  /** null: it cannot be built here. */
  go: GoReplayer | null;
  /** What the journals held. */
  counts: Record<string, number>;
  close(): Promise<void>;
}

export async function openLaboratory(databaseUrl: string): Promise<Laboratory> {
  const provider = await startSimProvider();
  const language = await startSimLanguage();
  const cli = await openEngineCli({ provider: provider.port, language: language.port });
  const go = await startGoReplayer();
  const home = await openStateHome(databaseUrl);
  return {
    home,
    provider,
    language,
    cli,
    go,
    counts: {},
    async close() {
      go?.close();
      await home.close();
      await cli.close();
      language.close();
      provider.close();
    },
  };
}

export interface UpdateRun {
  stackName: string;
  update: Update;
  transport: CliRun['transport'];
  isParallel?: boolean;
  onStart?: CliRun['onStart'];
}

const CAN_CONTINUE: ReadonlySet<Command> = new Set<Command>(['up', 'destroy']);

/** Runs one update on a stack. Afterwards nothing of it holds the stack, whatever became of its process. */
export async function runUpdate(laboratory: Laboratory, run: UpdateRun): Promise<CliResult> {
  const { home, provider, language, cli } = laboratory;
  const { stackName, update, transport, isParallel = false } = run;
  const { resources, outputs, isContinuing } = update;
  provider.cloud(stackName).faults = update.faults;
  language.wish(stackName, { resources, outputs, isContinuing, isParallel });
  const access = home.backend.openRun({ runId: randomUUID(), stackName });
  try {
    const targets = await findTargets(laboratory, stackName, update.targets);
    const result = await cli.run({
      stackName,
      transport,
      backend: access,
      args: [
        update.command,
        '--yes',
        '--skip-preview',
        '--parallel',
        isParallel ? '8' : '1',
        ...update.flags.filter((flag) => flag !== '--target-dependents' || targets.length > 0),
        ...(update.isContinuing && CAN_CONTINUE.has(update.command) ? ['--continue-on-error'] : []),
        ...targets.flatMap((urn) => [update.targetFlag, urn]),
      ],
      ...(run.onStart ? { onStart: run.onStart } : {}),
    });
    // Such a run fails on both stacks and would agree about nothing.
    if (/unknown flag|unknown command|flag .* cannot be/.test(result.output)) throw new Error(result.output);
    return result;
  } finally {
    await access.close();
  }
}

async function findTargets(laboratory: Laboratory, stackName: string, indexes: readonly number[]): Promise<string[]> {
  if (indexes.length === 0) return [];
  const { deployment } = await readState(laboratory, stackName);
  const urns = (deployment.resources ?? []).map(({ urn }) => urn);
  return urns.length === 0 ? [] : [...new Set(indexes.map((index) => urns[index % urns.length] as string))];
}

export async function readState({ home }: Laboratory, stackName: string): Promise<VersionedDeployment> {
  const db = home.database.kysely;
  const stack = await findEngineStack(db, stackName);
  return stack ? readCurrentState(db, stack) : emptyDeployment();
}

export async function openCipher({ home }: Laboratory, stackName: string): Promise<StackCipher> {
  const stack = await findEngineStack(home.database.kysely, stackName);
  if (!stack) throw new Error(`there is no stack ${stackName}`);
  return openStackKey(home.envelope, stack.key_owner, stack.key_sealed);
}

/** The stack and all that is remembered of it. */
export async function forgetStack({ home, provider }: Laboratory, stackName: string): Promise<void> {
  await home.database.kysely.deleteFrom('state_stacks').where('name', '=', stackName).execute();
  provider.forget(stackName);
}

export interface RecordedUpdate {
  base: VersionedDeployment;
  entries: JournalEntry[];
  kept: VersionedDeployment;
}

/** The stack's newest update; null: none wrote a version. */
export async function readRecorded({ home }: Laboratory, stackName: string): Promise<RecordedUpdate | null> {
  const db = home.database.kysely;
  const stack = await findEngineStack(db, stackName);
  const update =
    stack &&
    (await db
      .selectFrom('state_updates')
      .selectAll()
      .where('stack_uuid', '=', stack.uuid)
      .where('version', '=', stack.version)
      .executeTakeFirst());
  if (!stack || !update) return null;
  return {
    base: (await readStateVersion(db, stack, update.base_version ?? 0)) as VersionedDeployment,
    entries: await readJournal(db, update.id),
    kept: (await readStateVersion(db, stack)) as VersionedDeployment,
  };
}

/** What the journals held, by kind of entry and what was begun or told in it: whether the programs come by everything shows in it. */
function countEntries(entries: readonly JournalEntry[], counts: Record<string, number>): void {
  const count = (what: string): void => void (counts[what] = (counts[what] ?? 0) + 1);
  for (const entry of entries) {
    const { operation, state } = entry;
    count(`${JOURNAL_KINDS[entry.kind]}${operation ? ` ${operation.type}` : ''}`);
    for (const field of COUNTED_FIELDS) if (entry[field] !== undefined && entry[field] !== null) count(field);
    if (state) for (const field of COUNTED_STATES) if (isTold(state[field])) count(`state ${field}`);
  }
}

const COUNTED_FIELDS = [
  'removeOld',
  'removeNew',
  'deleteOld',
  'deleteNew',
  'pendingReplacementOld',
  'pendingReplacementNew',
  'isRefresh',
  'newSnapshot',
] as const;
const COUNTED_STATES = [
  'aliases',
  'deletedWith',
  'external',
  'importID',
  'initErrors',
  'parent',
  'propertyDependencies',
  'protect',
  'replaceWith',
  'retainOnDelete',
] as const;

function isTold(value: unknown): boolean {
  return typeof value === 'object' && value !== null ? Object.keys(value).length > 0 : Boolean(value);
}

const STAMP = { time: '2026-01-01T00:00:00Z', version: 'v3.259.0', magic: '' };

/**
 * Holds our replay of a journal against the engine's: of all of it, and of it cut off after each of its entries, as a crash would leave it.
 * @returns what they do not agree on
 */
export async function compareReplays(
  { go, counts }: Laboratory,
  { base, entries }: Pick<RecordedUpdate, 'base' | 'entries'>,
): Promise<string[]> {
  countEntries(entries, counts);
  if (go === null) return [];
  for (let length = 0; length <= entries.length; length++) {
    const part = entries.slice(0, length);
    const theirs = await go.replay(base.deployment, part);
    let ours: VersionedDeployment | { error: string };
    try {
      ours = replayJournal(base, part, STAMP);
    } catch (error) {
      ours = { error: (error as Error).message };
    }
    if ('error' in theirs && 'error' in ours) continue;
    const [one, other] = [ours, theirs].map((state) => ('error' in state ? state : comparable(state)));
    const differences = findDifferences(one, other);
    if (differences.length > 0)
      return [`after ${length} of ${entries.length} entries ours is not the engine's replay:`, ...differences];
  }
  return [];
}

const MOST_DIFFERENCES = 12;

/** As lines `path: one | other`, the first dozen. */
export function findDifferences(one: unknown, other: unknown): string[] {
  const found: string[] = [];
  const walk = (a: unknown, b: unknown, path: string): void => {
    if (found.length >= MOST_DIFFERENCES || a === b) return;
    if (isObject(a) && isObject(b)) {
      for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) walk(a[key], b[key], `${path}.${key}`);
      return;
    }
    found.push(`${path}: ${show(a)} | ${show(b)}`);
  };
  walk(one, other, '');
  return found;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function show(value: unknown): string {
  return (JSON.stringify(value) ?? 'absent').slice(0, 200);
}
