/**
 * What exists in the simulated clouds, kept in the sandbox's journal: a resource is written down before its creation is answered,
 * so it is there after a kill -9. A resource that is on its way to a state has the state and the time in its record; nothing ticks.
 */
import type { Journal } from '../journal.ts';
import { isObject, type Properties } from './properties.ts';
import type { CloudPackage } from './tables/simulated-types.ts';

export interface CloudResource {
  package: CloudPackage;
  type: string;
  /** Where the id is unique: a region, a Kubernetes cluster, or '' everywhere. */
  scope: string;
  id: string;
  /** The name in Pulumi's program, as its creator gave it; '' for what no program made. */
  logicalName: string;
  /** As the cloud has them now: an outside hand may have changed them. */
  inputs: Properties;
  /** What the cloud told and no input says. */
  outputs: Properties;
  createdAtMs: number;
  /** What it is on its way to; null when it rests. */
  transition: Transition | null;
}

export interface Transition {
  operation: 'create' | 'update' | 'delete' | 'start' | 'stop';
  untilMs: number;
  /** Outputs from then on; null: it is gone then. */
  outputs: Properties | null;
}

export interface CloudStore {
  get(key: ResourceKey): CloudResource | undefined;
  /** All of a type wherever they are, in the order of their creation. */
  ofType(type: string): CloudResource[];
  all(): CloudResource[];
  put(resource: CloudResource): void;
  remove(key: ResourceKey): void;
}

export type ResourceKey = Pick<CloudResource, 'type' | 'scope' | 'id'>;

const PREFIX = 'cloud/';
/** Outputs that only the simulation reads begin so. */
const OWN_NOTES = 'simulated';

/** @param onChange told of each resource that was put or removed */
export function createCloudStore(
  journal: Journal,
  now: () => number,
  onChange: (key: ResourceKey) => void = () => {},
): CloudStore {
  const byType = new Map<string, Map<string, CloudResource>>();
  for (const [key, value] of journal.restored) {
    if (!key.startsWith(PREFIX)) continue;
    const resource = value as CloudResource;
    shelf(resource.type).set(placeOf(resource), resource);
  }

  function shelf(type: string): Map<string, CloudResource> {
    let found = byType.get(type);
    if (!found) byType.set(type, (found = new Map()));
    return found;
  }
  function put(resource: CloudResource): void {
    shelf(resource.type).set(placeOf(resource), resource);
    journal.put([[journalKey(resource), resource]]);
    onChange(resource);
  }
  function remove(key: ResourceKey): void {
    if (!shelf(key.type).delete(placeOf(key))) return;
    journal.put([[journalKey(key), null]]);
    onChange(key);
  }
  /** As it is by now; undefined when it is gone by now. */
  function settle(resource: CloudResource): CloudResource | undefined {
    const { transition } = resource;
    if (transition === null || transition.untilMs > now()) return resource;
    if (transition.outputs === null) {
      remove(resource);
      return undefined;
    }
    const settled = { ...resource, outputs: { ...resource.outputs, ...transition.outputs }, transition: null };
    put(settled);
    return settled;
  }
  return {
    get(key) {
      const found = shelf(key.type).get(placeOf(key));
      return found && settle(found);
    },
    ofType: (type) => [...shelf(type).values()].flatMap((resource) => settle(resource) ?? []),
    all: () => [...byType.values()].flatMap((some) => [...some.values()].flatMap((resource) => settle(resource) ?? [])),
    put,
    remove,
  };
}

/** Inputs over outputs, all the way down: an output may tell more of an object that the program gave. */
export function propertiesOf({ inputs, outputs }: Pick<CloudResource, 'inputs' | 'outputs'>): Properties {
  const { __defaults: _, ...given } = inputs;
  const told = Object.entries(outputs).filter(([name]) => !name.startsWith(OWN_NOTES));
  return overlay(Object.fromEntries(told), given) as Properties;
}

function overlay(under: unknown, over: unknown): unknown {
  if (over === undefined) return under;
  if (isObject(under) && isObject(over)) {
    const keys = new Set([...Object.keys(under), ...Object.keys(over)]);
    return Object.fromEntries([...keys].map((key) => [key, overlay(under[key], over[key])]));
  }
  if (Array.isArray(under) && Array.isArray(over)) return over.map((item, index) => overlay(under[index], item));
  return over;
}

function placeOf({ scope, id }: ResourceKey): string {
  return `${scope}\n${id}`;
}

function journalKey(key: ResourceKey): string {
  return `${PREFIX}${key.type}\n${placeOf(key)}`;
}
