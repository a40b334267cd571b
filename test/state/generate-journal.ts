/**
 * Random journals over random bases, as an engine could write them: the same seed gives the same. Every kind of entry occurs: creates, updates,
 * replacements both ways, deletes, refreshes with drift, outputs, renames with aliases, failures, steps that never ended, new bases.
 */
import type { Deployment, PendingOperation, ResourceState } from '../../domain/state/deployment.ts';
import type { JournalEntry } from '../../domain/state/journal.ts';
import type { SeededRandom } from '../support/seeded-random.ts';

const STACK = 'urn:pulumi:dev::proj::';
const TYPES = ['aws:ec2/vpc:Vpc', 'aws:ec2/subnet:Subnet', 'pulumi-nodejs:dynamic/vastai:Instance', 'my:mod:Component'];

export interface GeneratedJournal {
  base: Deployment;
  entries: JournalEntry[];
}

export function generateJournal(random: SeededRandom): GeneratedJournal {
  const base = generateBase(random);
  const entries: JournalEntry[] = [];
  const made: { operationId: number; resource: ResourceState }[] = [];
  const open = new Set((base.resources ?? []).map((_resource, index) => index));
  let sequenceID = 0;
  let operationID = 0;
  const add = (kind: number, more: Partial<JournalEntry> = {}): void => {
    entries.push({
      version: 1,
      kind,
      sequenceID: ++sequenceID,
      operationID,
      removeOld: null,
      removeNew: null,
      ...more,
    });
  };
  const begin = (type: PendingOperation['type'], resource: ResourceState): void => {
    operationID++;
    add(0, { operation: { resource, type } });
  };
  if (random.chance(0.3)) add(6, { secretsProvider: { type: 'service', state: { url: 'http://h', stack: 'dev' } } });
  const steps = between(random, 1, 14);
  for (let step = 0; step < steps; step++) {
    const oldIndex = pick(random, [...open]);
    const old = oldIndex === undefined ? undefined : base.resources?.[oldIndex];
    const mine = pick(random, made);
    switch (between(random, 0, 11)) {
      case 0:
      case 1: {
        const resource = generateResource(random, `n${step}`, [
          ...made.map((one) => one.resource),
          ...(base.resources ?? []),
        ]);
        begin('creating', resource);
        if (random.chance(0.15)) break; // the process died
        if (random.chance(0.1)) add(2);
        else {
          add(1, { state: resource });
          made.push({ operationId: operationID, resource });
        }
        break;
      }
      case 2: // same or update: the new one takes the place of the old
        if (old === undefined || oldIndex === undefined) break;
        if (random.chance(0.5)) begin('updating', old);
        else operationID++;
        if (random.chance(0.1)) break;
        add(1, { state: changed(random, old), removeOld: oldIndex });
        made.push({ operationId: operationID, resource: old });
        open.delete(oldIndex);
        break;
      case 3: // delete
        if (old === undefined || oldIndex === undefined) break;
        begin('deleting', old);
        if (random.chance(0.15)) break;
        add(random.chance(0.1) ? 2 : 1, { removeOld: oldIndex });
        open.delete(oldIndex);
        break;
      case 4: // replacement: the new one first, the old one waits
        if (old === undefined || oldIndex === undefined) break;
        begin('creating', old);
        add(1, { state: changed(random, old), deleteOld: oldIndex });
        made.push({ operationId: operationID, resource: old });
        break;
      case 5: // replacement: the old one first
        if (old === undefined || oldIndex === undefined) break;
        begin('deleting', old);
        add(1, { pendingReplacementOld: oldIndex });
        break;
      case 6: // refresh
        if (old === undefined || oldIndex === undefined) break;
        operationID++;
        if (random.chance(0.3)) {
          add(3, { removeOld: oldIndex, isRefresh: true });
          open.delete(oldIndex);
        } else add(3, { removeOld: oldIndex, state: changed(random, old), isRefresh: true });
        break;
      case 7:
        if (old === undefined || oldIndex === undefined) break;
        add(4, { removeOld: oldIndex, state: changed(random, old) });
        break;
      case 8:
        if (mine === undefined) break;
        add(4, { removeNew: mine.operationId, state: changed(random, mine.resource) });
        break;
      case 9: {
        if (mine === undefined) break;
        operationID++;
        const what = between(random, 0, 3);
        if (what === 0) add(1, { removeNew: mine.operationId });
        else if (what === 1) add(1, { deleteNew: mine.operationId });
        else if (what === 2) add(1, { pendingReplacementNew: mine.operationId });
        else add(3, { removeNew: mine.operationId, isRefresh: true, state: changed(random, mine.resource) });
        break;
      }
      case 10: // renamed: the old urn is an alias of the new one
        if (old === undefined || oldIndex === undefined) break;
        operationID++;
        add(1, { state: { ...old, urn: `${old.urn}-renamed-${step}`, aliases: [old.urn] }, removeOld: oldIndex });
        made.push({ operationId: operationID, resource: old });
        open.delete(oldIndex);
        break;
      case 11:
        // The engine writes it after a refresh, before it makes anything.
        if (made.length === 0 && random.chance(0.3)) {
          add(7);
          return { base, entries };
        }
    }
  }
  return { base, entries };
}

function generateBase(random: SeededRandom): Deployment {
  const resources: ResourceState[] = [];
  const count = between(random, 0, 8);
  for (let index = 0; index < count; index++) resources.push(generateResource(random, `b${index}`, resources));
  const pending: PendingOperation[] = random.chance(0.2)
    ? [
        { resource: generateResource(random, 'pending', resources), type: 'creating' },
        { resource: generateResource(random, 'other', resources), type: 'updating' },
      ]
    : [];
  return {
    manifest: { time: '2026-01-01T00:00:00Z', magic: 'm', version: 'v3.259.0' },
    ...(random.chance(0.5) ? { secrets_providers: { type: 'service', state: { url: 'http://h', stack: 'dev' } } } : {}),
    ...(resources.length > 0 ? { resources } : {}),
    ...(pending.length > 0 ? { pending_operations: pending } : {}),
    metadata: {},
  };
}

function generateResource(random: SeededRandom, name: string, before: readonly ResourceState[]): ResourceState {
  const type = pick(random, TYPES) ?? 'my:mod:Component';
  const parent = random.chance(0.4) ? pick(random, before) : undefined;
  const dependencies = before.filter(() => random.chance(0.25)).map(({ urn }) => urn);
  const parentType = parent?.urn.split('::')[2];
  return {
    urn: `${STACK}${parentType === undefined ? '' : `${parentType}$`}${type}::${name}`,
    custom: type !== 'my:mod:Component',
    type,
    ...(type === 'my:mod:Component' ? {} : { id: `id-${name}` }),
    ...(random.chance(0.7) ? { inputs: { cidr: '10.0.0.0/16', size: between(random, 0, 5) } } : {}),
    ...(random.chance(0.7) ? { outputs: { arn: `arn-${name}`, tags: { a: 'b' } } } : {}),
    ...(parent ? { parent: parent.urn } : {}),
    ...(dependencies.length > 0 ? { dependencies, propertyDependencies: { cidr: dependencies } } : {}),
    ...(random.chance(0.1) ? { protect: true } : {}),
    ...(random.chance(0.1) ? { initErrors: ['half done'] } : {}),
    ...(random.chance(0.1) && before[0] ? { deletedWith: before[0].urn } : {}),
    ...(random.chance(0.1) && before[0] ? { replaceWith: [before[0].urn] } : {}),
    ...(random.chance(0.05) ? { refreshBeforeUpdate: true } : {}),
    ...(random.chance(0.05) ? { taint: true } : {}),
  };
}

function changed(random: SeededRandom, resource: ResourceState): ResourceState {
  return { ...resource, outputs: { ...resource.outputs, changed: between(random, 0, 1_000) } };
}

function between(random: SeededRandom, from: number, to: number): number {
  return from + random.below(to - from + 1);
}

function pick<T>(random: SeededRandom, from: readonly T[]): T | undefined {
  return from.length === 0 ? undefined : random.pick(from);
}
