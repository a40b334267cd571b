/**
 * Random programs: a first graph of resources and some updates that each change it, with what goes wrong on the way. The same seed gives the
 * same program.
 */
import type { SeededRandom } from '../support/seeded-random.ts';
import {
  COMPONENT,
  OTHER_THING,
  PROVIDER_TYPE,
  STACK_REFERENCE,
  THING,
  type Command,
  type Drift,
  type Program,
  type Update,
  type Wished,
} from './program.ts';
import { FOREIGN, type Fault, type FaultOp } from './sim-provider.ts';

export interface ProgramOptions {
  updates: number;
  /**
   * Everything that is at the cloud is in the program: nothing is imported, retained, protected, or deleted with another; and nothing goes wrong
   * but what the caller makes go wrong.
   */
  isPlain?: boolean;
}

export function generateProgram(random: SeededRandom, { updates: count, isPlain = false }: ProgramOptions): Program {
  let serial = 0;
  const nextName = (): string => `r${++serial}`;
  let wished: Wished[] = [];
  const first = 2 + random.below(isPlain ? 8 : 6);
  for (let index = 0; index < first; index++) wished = [...wished, generateWished(random, nextName(), wished, isPlain)];
  const updates: Update[] = [];
  for (let index = 0; index < count; index++) {
    if (index > 0) {
      wished = wished.map((one) => ({
        ...one,
        aliases: random.chance(0.3) ? one.aliases : [],
        // What is protected for ever lets nothing else happen.
        isProtected: one.isProtected && random.chance(0.6),
      }));
      const changes = isPlain ? 3 + random.below(4) : random.below(4);
      for (let change = 0; change < changes; change++) wished = changeOne(random, wished, nextName, isPlain);
    }
    updates.push(generateUpdate(random, wished, index, isPlain));
  }
  return { updates };
}

function generateUpdate(random: SeededRandom, resources: Wished[], index: number, isPlain: boolean): Update {
  const draw = random.next();
  if (index > 0 && !isPlain && draw < 0.05) return generateImport(random, resources, index);
  const command: Command = index === 0 || isPlain || draw < 0.75 ? 'up' : draw < 0.9 ? 'refresh' : 'destroy';
  const isRefreshing = command === 'refresh' || random.chance(isPlain ? 0 : 0.15);
  const isTargeted = index > 0 && !isPlain && random.chance(0.12);
  const isReplacing = command === 'up' && random.chance(0.3);
  const faults = isPlain ? [] : generateFaults(random, resources, command);
  const targetFlag = isReplacing ? '--replace' : command === 'up' && random.chance(0.25) ? '--exclude' : '--target';
  return {
    command,
    flags: [
      ...(command !== 'refresh' && isRefreshing ? ['--refresh'] : []),
      ...(command !== 'up' && random.chance(0.25) ? ['--run-program'] : []),
      ...(isTargeted && targetFlag === '--target' && random.chance(0.5) ? ['--target-dependents'] : []),
    ],
    targets: isTargeted ? Array.from({ length: 1 + random.below(2) }, () => random.below(20)) : [],
    targetFlag,
    resources: provoke(resources, faults, index),
    // Deletes that hang on nothing of each other come in any order: with one that fails all others are to be reached.
    isContinuing: random.chance(0.4) || faults.some(({ op }) => op === 'delete'),
    faults,
    drift: isRefreshing || random.chance(0.1) ? generateDrift(random) : [],
    outputs: { count: resources.length, ...(random.chance(0.3) ? { last: `of ${index}` } : {}) },
  };
}

/** By the CLI and not by the program, which knows nothing of it: its next up deletes it. */
function generateImport(random: SeededRandom, resources: Wished[], index: number): Update {
  const name = `i${index}`;
  const id = random.chance(0.85) ? `${FOREIGN}${name}` : `missing-${name}`;
  return {
    command: 'import',
    flags: [THING, name, id, '--generate-code=false', '--protect=false'],
    targets: [],
    targetFlag: '--target',
    resources,
    isContinuing: false,
    faults: [],
    drift: [],
    outputs: {},
  };
}

function generateFaults(random: SeededRandom, resources: readonly Wished[], command: Command): Fault[] {
  const faults: Fault[] = [];
  const ops: FaultOp[] =
    command === 'up' ? ['create', 'create', 'update', 'update', 'delete', 'read'] : ['delete', 'read'];
  const customs = resources.filter(({ kind }) => kind === 'custom');
  while (random.chance(0.35) && customs.length > 0) {
    const op = random.pick(ops);
    const isPartial = (op === 'create' || op === 'update') && random.chance(0.6);
    // What is new comes last.
    const among = op === 'create' ? customs.slice(-5) : customs;
    faults.push({ op, name: random.pick(among).name, kind: isPartial ? 'partial' : 'fail' });
  }
  return faults;
}

/** What is to fail must come up at all. */
function provoke(resources: readonly Wished[], faults: readonly Fault[], index: number): Wished[] {
  return resources.map((one) => {
    const ops = faults.filter(({ name }) => name === one.name && one.kind === 'custom').map(({ op }) => op);
    const inputs = {
      ...one.inputs,
      ...(ops.includes('update') ? { size: 100 + index } : {}),
      ...(ops.includes('delete') || ops.includes('create') ? { zone: `z${index}` } : {}),
    };
    return { ...one, inputs };
  });
}

function generateDrift(random: SeededRandom): Drift[] {
  const drift: Drift[] = [];
  while (random.chance(0.5)) drift.push({ index: random.below(10), kind: random.chance(0.5) ? 'gone' : 'changed' });
  return drift;
}

function generateWished(random: SeededRandom, name: string, before: readonly Wished[], isPlain: boolean): Wished {
  const draw = random.next();
  const kind = draw < 0.65 || isPlain ? 'custom' : draw < 0.85 ? 'component' : draw < 0.93 ? 'read' : 'provider';
  const base: Wished = {
    name,
    kind,
    type: THING,
    inputs: {},
    secrets: [],
    refs: {},
    dependsOn: before.filter(() => random.chance(0.15)).map((one) => one.name),
    parent: pickParent(random, before),
    provider: null,
    deletedWith: null,
    replaceWith: [],
    aliases: [],
    id: null,
    isProtected: false,
    isRetained: false,
    deleteBeforeReplace: null,
    ignoreChanges: [],
    replaceOnChanges: [],
    secretOutputs: [],
    trigger: 0,
  };
  if (kind === 'component') return { ...base, type: COMPONENT };
  if (kind === 'provider') return { ...base, type: PROVIDER_TYPE, inputs: { region: random.pick(['x', 'y']) } };
  const resource: Wished = {
    ...base,
    type: random.chance(0.7) ? THING : OTHER_THING,
    inputs: { size: random.below(3), zone: random.pick(['a', 'b']), password: `secret of ${name}` },
    secrets: random.chance(0.3) ? ['password'] : [],
    secretOutputs: random.chance(0.2) ? ['token'] : [],
    provider: random.chance(0.3) ? (before.find((one) => one.kind === 'provider')?.name ?? null) : null,
  };
  if (kind === 'read' && random.chance(0.3)) return { ...base, type: STACK_REFERENCE, provider: null };
  if (kind === 'read') return { ...resource, id: `${FOREIGN}${name}`, inputs: {}, secrets: [] };
  const customs = before.filter((one) => one.kind === 'custom');
  const ref = random.chance(0.4) && customs.length > 0 ? { peer: random.pick(customs).name } : {};
  const more = { ...resource, refs: ref as Record<string, string>, deleteBeforeReplace: pickReplacement(random) };
  if (random.chance(0.2)) more.inputs['alone'] = true;
  if (random.chance(0.1)) more.inputs['fresh'] = true;
  if (isPlain) return more;
  const isImported = random.chance(0.12);
  return {
    ...more,
    isProtected: random.chance(0.08),
    isRetained: random.chance(0.08),
    deletedWith: random.chance(0.15) && customs.length > 0 ? random.pick(customs).name : null,
    replaceWith: random.chance(0.1) && customs.length > 0 ? [random.pick(customs).name] : [],
    trigger: random.chance(0.1) ? 1 : 0,
    ...(isImported
      ? { id: `${FOREIGN}${name}`, inputs: { size: 1, zone: random.chance(0.7) ? 'a' : 'b' }, refs: {}, secrets: [] }
      : {}),
  };
}

function pickParent(random: SeededRandom, before: readonly Wished[]): string | null {
  const parents = before.filter((one) => one.kind !== 'read' && one.kind !== 'provider');
  return parents.length > 0 && random.chance(0.4) ? random.pick(parents).name : null;
}

function pickReplacement(random: SeededRandom): boolean | null {
  return random.chance(0.3) ? random.chance(0.6) : null;
}

function changeOne(random: SeededRandom, wished: Wished[], nextName: () => string, isPlain: boolean): Wished[] {
  const at = random.below(Math.max(1, wished.length));
  const one = wished[at];
  if (one === undefined || random.chance(0.18)) return [...wished, generateWished(random, nextName(), wished, isPlain)];
  const put = (changed: Partial<Wished>): Wished[] =>
    wished.map((other, index) => (index === at ? { ...other, ...changed } : other));
  const kinds = isPlain ? 6 : 16;
  switch (random.below(kinds)) {
    case 0:
      return put({ inputs: { ...one.inputs, size: random.below(5) } });
    case 1:
    case 2:
      return put({ inputs: { ...one.inputs, zone: random.pick(['a', 'b', 'c']) } });
    case 3:
      return withoutName(wished, one.name);
    case 4:
      return renamed(wished, one, nextName());
    case 5:
      return put({ deleteBeforeReplace: pickReplacement(random) });
    case 6:
      return reparented(random, wished, at);
    case 7:
      return put({ secrets: one.secrets.length > 0 ? [] : ['password'] });
    case 8:
      return put({ isProtected: !one.isProtected && random.chance(0.5) });
    case 9:
      return put({ isRetained: !one.isRetained });
    case 10:
      return put({ ignoreChanges: one.ignoreChanges.length > 0 ? [] : [random.pick(['size', 'zone'])] });
    case 11:
      return put({ replaceOnChanges: one.replaceOnChanges.length > 0 ? [] : ['size'] });
    case 12:
      return put({ secretOutputs: one.secretOutputs.length > 0 ? [] : ['token', 'address'] });
    case 13:
      return put({
        dependsOn: wished
          .slice(0, at)
          .filter(() => random.chance(0.3))
          .map(({ name }) => name),
      });
    case 14:
      return put({ trigger: one.kind === 'custom' ? one.trigger + 1 : 0 });
    default:
      return one.kind === 'custom' && one.id !== null ? put({ id: null }) : put({ inputs: { ...one.inputs, size: 9 } });
  }
}

/** Whoever named it, names it no more. */
function withoutName(wished: readonly Wished[], gone: string): Wished[] {
  return wished
    .filter(({ name }) => name !== gone)
    .map((one) => ({
      ...one,
      refs: Object.fromEntries(Object.entries(one.refs).filter(([, name]) => name !== gone)),
      dependsOn: one.dependsOn.filter((name) => name !== gone),
      replaceWith: one.replaceWith.filter((name) => name !== gone),
      parent: one.parent === gone ? null : one.parent,
      provider: one.provider === gone ? null : one.provider,
      deletedWith: one.deletedWith === gone ? null : one.deletedWith,
      aliases: one.aliases.filter(({ parent }) => parent !== gone),
    }));
}

/** Called otherwise from now on; by its alias it is the same one. */
function renamed(wished: readonly Wished[], one: Wished, to: string): Wished[] {
  const swap = (name: string): string => (name === one.name ? to : name);
  const swapOrNull = (name: string | null): string | null => (name === null ? null : swap(name));
  return wished.map((other) => ({
    ...other,
    name: swap(other.name),
    refs: Object.fromEntries(Object.entries(other.refs).map(([key, name]) => [key, swap(name)])),
    dependsOn: other.dependsOn.map(swap),
    replaceWith: other.replaceWith.map(swap),
    parent: swapOrNull(other.parent),
    provider: swapOrNull(other.provider),
    deletedWith: swapOrNull(other.deletedWith),
    aliases: [
      ...(other.name === one.name ? [{ name: one.name }] : []),
      ...other.aliases.map((alias) => (alias.parent ? { ...alias, parent: swap(alias.parent) } : alias)),
    ],
  }));
}

function reparented(random: SeededRandom, wished: readonly Wished[], at: number): Wished[] {
  const parent = pickParent(random, wished.slice(0, at));
  return wished.map((one, index) =>
    index === at && one.parent !== parent ? { ...one, parent, aliases: [...one.aliases, { parent: one.parent }] } : one,
  );
}
