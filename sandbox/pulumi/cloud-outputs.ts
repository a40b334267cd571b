/** What the cloud tells of a resource: outputs known before it is made, those of the finished one, and the word of its state on the way. */
import type { SandboxClock } from '../clock.ts';
import type { CloudFault, CloudFaultBook } from './cloud-faults.ts';
import type { ClusterApi, PackageRules, ResourceRules, Scene } from './cloud-rules.ts';
import type { CloudResource, CloudStore, Transition } from './cloud-store.ts';
import type { CloudTimings, CloudWaits } from './cloud-time.ts';
import { withPath, type Properties } from './properties.ts';
import type { ResourceTable } from './tables/table.ts';

export interface CloudWorld {
  seed: number;
  clock: SandboxClock;
  store: CloudStore;
  faults: CloudFaultBook;
  waits: CloudWaits;
  timings: CloudTimings;
  clusterApi: ClusterApi | null;
  /** Counts calls, by package, operation and type. */
  count(key: string): void;
}

/** What everything that is done in one cloud needs. */
export interface CloudParts {
  rules: PackageRules;
  world: () => CloudWorld;
  tableOf(type: string): ResourceTable;
  rulesOf(type: string): ResourceRules;
}

/** Of what the package knows beforehand, that which this type has. */
export function knownOutputs(
  { rules, tableOf }: CloudParts,
  type: string,
  inputs: Properties,
  scene: Scene,
): Properties {
  const { out } = tableOf(type);
  const all = Object.entries(rules.knownOutputs(type, inputs, scene));
  return Object.fromEntries(all.filter(([name, value]) => value !== undefined && (name in out || `${name}!` in out)));
}

/** Every output that the SDK says is always there: what the rules tell, and made-up values for the rest. */
export function completeOutputs(
  parts: CloudParts,
  type: string,
  inputs: Properties,
  id: string,
  scene: Scene,
  before?: CloudResource,
): Properties {
  const { rules, tableOf, rulesOf } = parts;
  const told = {
    ...knownOutputs(parts, type, inputs, scene),
    ...rulesOf(type).outputs?.(inputs, { id, scene, before }),
  };
  const outputs: Properties = { ...told };
  for (const [key, kind] of Object.entries(tableOf(type).out)) {
    const property = key.replace(/!$/, '');
    if (property in outputs || inputs[property] !== undefined || !key.endsWith('!')) continue;
    outputs[property] = before?.outputs[property] ?? rules.makeOutput({ type, property, kind, id, inputs, scene });
  }
  return outputs;
}

type Operation = Transition['operation'];

export function withStatus(
  { status }: ResourceRules,
  outputs: Properties,
  operation: Operation,
  inputs: Properties,
): Properties {
  if (!status) return outputs;
  const words: Record<Operation, string> = {
    create: status.creating,
    update: status.updating,
    delete: status.deleting,
    start: status.starting ?? status.updating,
    stop: status.stopping ?? status.updating,
  };
  return withPath(outputs, status.property, words[operation] || readyWord(status, inputs));
}

function readyWord(status: NonNullable<ResourceRules['status']>, inputs: Properties): string {
  return typeof status.ready === 'string' ? status.ready : status.ready(inputs);
}

export function finalOutputs(
  { status }: ResourceRules,
  outputs: Properties,
  inputs: Properties,
  fault: CloudFault | undefined,
): Properties | null {
  if (fault?.kind === 'vanishes') return null;
  if (!status) return outputs;
  const word =
    fault?.kind === 'create_failed'
      ? status.failed
      : fault?.kind === 'degraded'
        ? 'DEGRADED'
        : readyWord(status, inputs);
  return withPath(outputs, status.property, word);
}
