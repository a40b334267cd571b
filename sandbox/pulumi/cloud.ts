/**
 * One simulated cloud: what its rules say, done to what is stored. Plain values in and out; the wire is provider-server.ts, the clouds'
 * own ways are in the rules.
 */
import { createRandom } from '../random.ts';
import { checkInputs, type Complaint } from './check-inputs.ts';
import { CloudError, UnfinishedError } from './cloud-error.ts';
import {
  completeOutputs,
  finalOutputs,
  knownOutputs,
  withStatus,
  type CloudParts,
  type CloudWorld,
} from './cloud-outputs.ts';
import type { CloudFault, CloudOperation } from './cloud-faults.ts';
import type { Effects, PackageRules, ResourceRules, Scene } from './cloud-rules.ts';
import { propertiesOf, type CloudResource, type Transition } from './cloud-store.ts';
import { durationMs } from './cloud-time.ts';
import { getPath, UNKNOWN, type Properties, asText } from './properties.ts';
import { diffInputs, type InputChange } from './resource-diff.ts';
import { loadTable, type ResourceTable } from './tables/table.ts';

/** Which provider instance asks: its connection and its arguments. */
export interface Asker {
  peer: string;
  config: Properties;
}

export interface CheckedInputs {
  inputs: Properties;
  failures: Complaint[];
}

export interface ResourceDiff {
  changes: InputChange[];
  isDeletedFirst: boolean;
}

export interface Made {
  id: string;
  properties: Properties;
}

export interface Cloud {
  checkConfig(news: Properties): Complaint[];
  check(
    asker: Asker,
    request: {
      type: string;
      logicalName: string;
      news: Properties;
      olds: Properties | undefined;
      randomSeed: Uint8Array;
      proposedName: string | null | undefined;
    },
  ): CheckedInputs;
  diff(type: string, oldInputs: Properties, news: Properties, ignored: readonly string[]): ResourceDiff;
  /** Of a new resource: what is not known before it exists is UNKNOWN. */
  previewCreate(asker: Asker, type: string, inputs: Properties): Properties;
  create(asker: Asker, type: string, logicalName: string, inputs: Properties): Promise<Made>;
  /** Undefined when there is none. `known`: the engine's inputs; none at an import. */
  read(
    asker: Asker,
    type: string,
    id: string,
    properties: Properties,
    known: Properties,
  ): { id: string; inputs: Properties; properties: Properties } | undefined;
  previewUpdate(type: string, olds: Properties, oldInputs: Properties, news: Properties): Properties;
  update(asker: Asker, type: string, id: string, olds: Properties, news: Properties): Promise<Properties>;
  delete(asker: Asker, type: string, id: string, olds: Properties): Promise<void>;
  /** Undefined stands for an unknown function. */
  invoke(asker: Asker, token: string, args: Properties): { result: Properties; failures: Complaint[] } | undefined;
}

/** `world` is asked for at each call: a reset puts another one in its place. */
export function createCloud(rules: PackageRules, world: () => CloudWorld): Cloud {
  const tables = loadTable(rules.name);
  const tableOf = (type: string): ResourceTable => {
    const table = tables.resources[type] ?? rules.unlistedType?.(type);
    if (!table) {
      throw new CloudError(
        'UnknownType',
        `the simulated ${rules.name} does not know the resource type ${type}: add its module to sandbox/pulumi/tables/simulated-types.ts and run derive.ts`,
      );
    }
    return table;
  };
  const rulesOf = (type: string): ResourceRules => rules.types[type] ?? rules.plainType ?? {};
  const parts: CloudParts = { rules, world, tableOf, rulesOf };
  return {
    checkConfig: (news) => rules.complainOfConfig?.(news) ?? [],
    check: (asker, request) => check(parts, asker, request),
    diff(type, oldInputs, news, ignored) {
      const { nameInput, isDeletedFirst, isSilent } = rulesOf(type);
      const changes = diffInputs(oldInputs, news, { replaceOn: replacing(parts, type), ignored, isSilent });
      const name = nameInput === undefined ? undefined : getPath(news, nameInput);
      const isNamedByHand = name !== undefined && !isAutomatic(news, nameInput!);
      const isSameName = nameInput !== undefined && getPath(oldInputs, nameInput) === name;
      return { changes, isDeletedFirst: isDeletedFirst === true || (isNamedByHand && isSameName) };
    },
    previewCreate(asker, type, inputs) {
      const scene = createScene(parts, asker.config, type, inputs);
      const outputs = Object.keys(tableOf(type).out).filter((key) => key.endsWith('!'));
      const unknown = Object.fromEntries(outputs.map((key) => [key.slice(0, -1), UNKNOWN]));
      const { __defaults: _, ...given } = inputs;
      return { ...unknown, ...knownOutputs(parts, type, inputs, scene), ...given };
    },
    create: (asker, type, logicalName, inputs) => create(parts, asker, { type, logicalName, inputs }),
    read(asker, type, id, properties, known) {
      world().count(`${rules.name} read ${type}`);
      const scene = createScene(parts, asker.config, type, properties);
      rules.refuseCall?.(type, properties, scene, 'read');
      refuseByFault(parts, takeFault(parts, 'read', type, [id]), { type, operation: 'read', name: id, inputs: known });
      const found = world().store.get({ type, scope: scene.scope, id });
      return found && { id, inputs: readInputs(found, known), properties: propertiesOf(found) };
    },
    previewUpdate(type, olds, oldInputs, news) {
      const kept = Object.fromEntries(Object.entries(olds).filter(([key]) => !(key in oldInputs)));
      const { __defaults: _, ...given } = news;
      const changes = diffInputs(oldInputs, news, { replaceOn: [], ignored: [] });
      const changing = changes.length === 0 ? [] : (rulesOf(type).changingOutputs?.(changes) ?? []);
      return { ...kept, ...given, ...Object.fromEntries(changing.map((name) => [name, UNKNOWN])) };
    },
    update: (asker, type, id, olds, news) => update(parts, asker, { type, id, olds, news }),
    delete: (asker, type, id, olds) => remove(parts, asker, { type, id, olds }),
    invoke(asker, token, args) {
      const table = tables.functions[token];
      if (!table) return undefined;
      world().count(`${rules.name} invoke ${token}`);
      const failures = checkInputs(tables, table.in, args);
      if (failures.length > 0) return { result: {}, failures };
      refuseByFault(parts, takeFault(parts, 'invoke', token, []), {
        type: token,
        operation: 'invoke',
        name: token,
        inputs: args,
      });
      return { result: rules.invoke(token, args, createScene(parts, asker.config, token, args)), failures };
    },
  };
}

function createScene({ rules, world }: CloudParts, args: Properties, type: string, properties: Properties): Scene {
  const config = rules.readConfig(args);
  const own = rules.scopeOf(type, properties, config);
  const { store, clock, seed, clusterApi } = world();
  return {
    config,
    clusterApi,
    scope: own,
    now: () => clock.now(),
    find: (wanted, scope = own) =>
      (wanted === '*' ? store.all() : store.ofType(wanted)).filter(
        (resource) => scope === null || resource.scope === scope || resource.scope === '',
      ),
    random: (name) => createRandom(seed, `cloud ${name}`),
  };
}

function replacing({ rules, rulesOf }: CloudParts, type: string): string[] {
  const { nameInput, replaceOn } = rulesOf(type);
  return [...rules.commonReplaceOn, ...(replaceOn ?? []), ...(nameInput === undefined ? [] : [nameInput])];
}

/** The providers note in the inputs which of them they chose themselves. */
function isAutomatic(inputs: Properties, name: string): boolean {
  const marks = inputs.__defaults;
  return Array.isArray(marks) && marks.includes(name);
}

function check(parts: CloudParts, asker: Asker, request: Parameters<Cloud['check']>[1]): CheckedInputs {
  const { rules, tableOf, rulesOf } = parts;
  const { type, news } = request;
  const table = tableOf(type);
  const failures = checkInputs(loadTable(rules.name), table.in, news);
  // The rules may rely on the kinds of what they look at.
  if (failures.length > 0) return { inputs: news, failures };
  const scene = createScene(parts, asker.config, type, news);
  const inputs = rules.fillInputs({ ...request, rules: rulesOf(type), table, scene });
  return { inputs, failures: rulesOf(type).complain?.(inputs, scene) ?? [] };
}

interface CreateCall {
  type: string;
  logicalName: string;
  inputs: Properties;
}

async function create(parts: CloudParts, asker: Asker, { type, logicalName, inputs }: CreateCall): Promise<Made> {
  const { rules, world, rulesOf } = parts;
  const { store, clock } = world();
  const scene = createScene(parts, asker.config, type, inputs);
  const ruled = rulesOf(type);
  world().count(`${rules.name} create ${type}`);
  const cloudName = asText(
    ruled.nameInput === undefined ? logicalName : (getPath(inputs, ruled.nameInput) ?? logicalName),
  );
  const fault = takeFault(parts, 'create', type, [logicalName, cloudName]);
  refuseByFault(parts, fault, { type, operation: 'create', name: cloudName, inputs });
  rules.refuseCall?.(type, inputs, scene, 'create');
  ruled.refuseCreate?.(inputs, scene);
  const id = ruled.id?.(inputs, scene, logicalName) ?? rules.defaultId(type, inputs, scene, logicalName);
  const existing = store.get({ type, scope: scene.scope, id });
  if (existing) {
    const refusal = rules.existsError(type, id, inputs, scene);
    if (refusal) throw refusal;
    return { id, properties: await change(parts, asker, scene, existing, inputs) };
  }
  const outputs = completeOutputs(parts, type, inputs, id, scene);
  const untilMs = clock.now() + spanMs(parts, 'create', ruled, scene, `${type} ${id} create`, fault);
  const resource: CloudResource = {
    package: rules.name,
    type,
    scope: scene.scope,
    id,
    logicalName,
    inputs,
    outputs: withStatus(ruled, outputs, 'create', inputs),
    createdAtMs: clock.now(),
    transition: { operation: 'create', untilMs, outputs: finalOutputs(ruled, outputs, inputs, fault) },
  };
  // Written down before anybody waits for it: from here on it exists, whatever happens to whoever asked.
  store.put(resource);
  ruled.afterCreate?.(resource, effectsOf(parts, scene));
  return finishCreate(parts, asker, resource, fault);
}

async function finishCreate(
  parts: CloudParts,
  asker: Asker,
  resource: CloudResource,
  fault: CloudFault | undefined,
): Promise<Made> {
  const { rules, world } = parts;
  const { type, id, logicalName, inputs } = resource;
  const isOver = await world().waits.until(asker.peer, resource.transition!.untilMs);
  const found = world().store.get(resource);
  if (!found) {
    if (fault)
      throw rules.faultError({ ...fault, kind: 'no_capacity' }, { type, operation: 'create', name: id, inputs });
    throw new CloudError('Vanished', `${type} ${id} was deleted by somebody else while it was made`);
  }
  const properties = propertiesOf(found);
  const kept = { id, properties, inputs };
  if (!isOver) throw new UnfinishedError('Canceled', `canceled while ${logicalName} (${id}) was being made`, kept);
  if (fault?.kind === 'create_failed' || fault?.kind === 'degraded') {
    const { message } = rules.faultError(fault, { type, operation: 'create', name: id, inputs });
    throw new UnfinishedError(fault.code ?? fault.kind, message, kept);
  }
  if (fault?.kind === 'lost_answer') throw lostAnswer();
  return { id, properties };
}

async function update(
  parts: CloudParts,
  asker: Asker,
  { type, id, olds, news }: { type: string; id: string; olds: Properties; news: Properties },
): Promise<Properties> {
  const { rules, world } = parts;
  world().count(`${rules.name} update ${type}`);
  const scene = createScene(parts, asker.config, type, { ...olds, ...news });
  rules.refuseCall?.(type, news, scene, 'update');
  const existing = world().store.get({ type, scope: scene.scope, id });
  if (!existing) throw rules.goneError(type, id);
  return change(parts, asker, scene, existing, news);
}

async function change(
  parts: CloudParts,
  asker: Asker,
  scene: Scene,
  existing: CloudResource,
  news: Properties,
): Promise<Properties> {
  const { rules, world, rulesOf } = parts;
  const { store, clock } = world();
  const { type, id } = existing;
  const ruled = rulesOf(type);
  const changes = diffInputs(existing.inputs, news, { replaceOn: [], ignored: [], isSilent: ruled.isSilent });
  const operation = ruled.updateKind?.(existing, changes, news) ?? 'update';
  // The engine updates without a change what it could not finish making: that only has to come to its end.
  if (changes.length === 0) return settleUnfinished(parts, asker, existing);
  if (existing.transition) throw rules.conflictError(existing, operation);
  const fault = takeFault(parts, operation, type, [existing.logicalName, id, nameOf(existing, ruled)]);
  refuseByFault(parts, fault, { type, operation, name: id, inputs: news });
  ruled.refuseUpdate?.(existing, news, changes, scene);
  const outputs = completeOutputs(parts, type, news, id, scene, existing);
  const isQuick = changes.every(({ path }) => /^(tags|labels|metadata)\b/.test(path));
  const answerMs =
    clock.now() + (isQuick ? 0 : spanMs(parts, operation, ruled, scene, `${type} ${id} ${operation}`, fault));
  const lagMs = fault?.kind === 'stop_lags' ? (fault.delayMs ?? 5_000) : 0;
  const changed: CloudResource = {
    ...existing,
    inputs: news,
    outputs: withStatus(ruled, outputs, operation, news),
    transition: { operation, untilMs: answerMs + lagMs, outputs: finalOutputs(ruled, outputs, news, undefined) },
  };
  store.put(changed);
  ruled.afterUpdate?.(changed, effectsOf(parts, scene));
  const isOver = await world().waits.until(asker.peer, answerMs);
  const found = store.get(existing);
  if (!found) throw rules.goneError(type, id);
  const properties = propertiesOf(found);
  if (!isOver)
    throw new UnfinishedError('Canceled', `canceled while ${id} was being changed`, { id, properties, inputs: news });
  if (fault?.kind === 'lost_answer') throw lostAnswer();
  return properties;
}

/** Waits for what is under way; a failed one stays failed, and says so. */
async function settleUnfinished(parts: CloudParts, asker: Asker, existing: CloudResource): Promise<Properties> {
  const { rules, world, rulesOf } = parts;
  const { id, type, inputs } = existing;
  const isOver = existing.transition === null || (await world().waits.until(asker.peer, existing.transition.untilMs));
  const found = world().store.get(existing);
  if (!found) throw rules.goneError(type, id);
  const properties = propertiesOf(found);
  if (!isOver) throw new UnfinishedError('Canceled', `canceled while ${id} was being made`, { id, properties, inputs });
  const { status } = rulesOf(type);
  const word = status && getPath(found.outputs, status.property);
  if (status && (word === status.failed || word === 'DEGRADED')) {
    throw new UnfinishedError(String(word), `unexpected state '${String(word)}' of ${id}: it has to be replaced`, {
      id,
      properties,
      inputs,
    });
  }
  return properties;
}

async function remove(
  parts: CloudParts,
  asker: Asker,
  { type, id, olds }: { type: string; id: string; olds: Properties },
): Promise<void> {
  const { rules, world, rulesOf } = parts;
  const { store, clock } = world();
  world().count(`${rules.name} delete ${type}`);
  const scene = createScene(parts, asker.config, type, olds);
  rules.refuseCall?.(type, olds, scene, 'delete');
  const existing = store.get({ type, scope: scene.scope, id });
  // Gone already is what was wanted.
  if (!existing) return;
  const ruled = rulesOf(type);
  if (existing.transition && existing.transition.operation !== 'delete') throw rules.conflictError(existing, 'delete');
  let untilMs = existing.transition?.untilMs;
  let fault: CloudFault | undefined;
  if (untilMs === undefined) {
    fault = takeFault(parts, 'delete', type, [existing.logicalName, id, nameOf(existing, ruled)]);
    refuseByFault(parts, fault, { type, operation: 'delete', name: id, inputs: existing.inputs });
    ruled.refuseDelete?.(existing, scene);
    untilMs = clock.now() + spanMs(parts, 'delete', ruled, scene, `${type} ${id} delete`, fault);
    const transition: Transition = { operation: 'delete', untilMs, outputs: null };
    store.put({ ...existing, outputs: withStatus(ruled, existing.outputs, 'delete', existing.inputs), transition });
    ruled.afterDelete?.(existing, effectsOf(parts, scene));
  }
  const isOver = await world().waits.until(asker.peer, untilMs);
  store.get(existing);
  if (!isOver) throw new CloudError('Canceled', `canceled while ${id} was being deleted`);
  if (fault?.kind === 'lost_answer') throw lostAnswer();
}

function effectsOf({ world }: CloudParts, scene: Scene): Effects {
  const { store } = world();
  return { scene, put: (resource) => store.put(resource), remove: (resource) => store.remove(resource) };
}

function nameOf({ inputs, id }: CloudResource, { nameInput }: ResourceRules): string {
  return asText((nameInput === undefined ? undefined : getPath(inputs, nameInput)) ?? id);
}

function spanMs(
  { world }: CloudParts,
  operation: Transition['operation'],
  { seconds }: ResourceRules,
  scene: Scene,
  name: string,
  fault: CloudFault | undefined,
): number {
  if (fault?.kind === 'hangs') return NEVER_MS;
  const extraMs = fault?.kind === 'slow' ? (fault.delayMs ?? 5_000) : 0;
  const range = seconds?.[operation] ?? (operation === 'start' || operation === 'stop' ? seconds?.update : undefined);
  return durationMs(world().timings, range, scene.random(`${name} ${scene.scope}`)) + extraMs;
}

/** A hundred years: whole numbers survive the journal, infinity does not. */
const NEVER_MS = 100 * 365 * 86_400_000;

function takeFault(
  { rules, world }: CloudParts,
  operation: CloudOperation,
  type: string,
  names: readonly string[],
): CloudFault | undefined {
  return world().faults.take({ package: rules.name, type, names, operation });
}

const REFUSALS: readonly CloudFault['kind'][] = [
  'refused',
  'throttled',
  'quota_exceeded',
  'no_capacity',
  'access_denied',
  'conflict',
];

function refuseByFault(
  { rules }: CloudParts,
  fault: CloudFault | undefined,
  at: { type: string; operation: CloudOperation; name: string; inputs: Properties },
): void {
  if (fault && REFUSALS.includes(fault.kind)) throw rules.faultError(fault, at);
}

function lostAnswer(): CloudError {
  return new CloudError(
    'ConnectionLost',
    'the connection was lost before the answer came (read: connection reset by peer)',
  );
}

/** What the program set, as it is now, and what an outside hand added; all of them at an import. */
function readInputs({ inputs }: CloudResource, known: Properties): Properties {
  const { __defaults, ...own } = inputs;
  if (Object.keys(known).length === 0) return own;
  return known.__defaults === undefined ? own : { ...own, __defaults: known.__defaults };
}
