/**
 * What a simulated cloud says of its resource types. A package's rules hold for all of its types; a type that is more than stored inputs
 * with made-up outputs has rules of its own.
 */
import type { Random } from '../random.ts';
import type { Complaint } from './check-inputs.ts';
import type { CloudFault, CloudOperation } from './cloud-faults.ts';
import type { CloudError } from './cloud-error.ts';
import type { CloudResource } from './cloud-store.ts';
import type { Properties } from './properties.ts';
import type { InputChange, SilentChange } from './resource-diff.ts';
import type { CloudPackage } from './tables/simulated-types.ts';
import type { ResourceTable } from './tables/table.ts';

/** What a rule may look at. */
export interface Scene {
  /** The provider's configuration, with the cloud's defaults. */
  config: Properties;
  now(): number;
  /** Of this type (`*`: every type), in this scope unless another is given (null: everywhere). What is on its way out is among them. */
  find(type: string, scope?: string | null): CloudResource[];
  /** Seeded by the sandbox's seed and `name`. */
  random(name: string): Random;
  /** Of the resource that is asked about. */
  scope: string;
  /** Where the simulated clusters really answer; null: nowhere, and their addresses only look real. */
  clusterApi: ClusterApi | null;
}

/** A Kubernetes API that stands for every simulated cluster. */
export interface ClusterApi {
  urlOf(name: string): string;
  /** PEM in base64. */
  authority(): string;
}

export interface ResourceRules {
  /** The input that names it; filled in where the program does not. */
  nameInput?: string;
  /** Longest name that the cloud takes; an automatic one is cut. */
  maxNameLength?: number;
  /** Paths of inputs that only a new resource can change. */
  replaceOn?: readonly string[];
  /** The old one must go before the new one can be made, named or not. */
  isDeletedFirst?: boolean;
  isSilent?: SilentChange;
  /** What the provider fills into the inputs at check. */
  defaults?(inputs: Properties, scene: Scene): Properties;
  /** What the provider itself refuses before any call; unknown values must be let through. */
  complain?(inputs: Properties, scene: Scene): Complaint[];
  id?(inputs: Properties, scene: Scene, logicalName: string): string;
  /** What the cloud tells of it; may say any output, the rest is made up. After an update `before` is how it was. */
  outputs?(inputs: Properties, at: { id: string; scene: Scene; before?: CloudResource }): Properties;
  /** Outputs that an update of these inputs changes: unknown in its preview. */
  changingOutputs?(changes: readonly InputChange[]): readonly string[];
  /** Throws CloudError. */
  refuseCreate?(inputs: Properties, scene: Scene): void;
  refuseUpdate?(resource: CloudResource, news: Properties, changes: readonly InputChange[], scene: Scene): void;
  refuseDelete?(resource: CloudResource, scene: Scene): void;
  /** Made or changed beside it, or gone with it. */
  afterCreate?(resource: CloudResource, effects: Effects): void;
  afterUpdate?(resource: CloudResource, effects: Effects): void;
  afterDelete?(resource: CloudResource, effects: Effects): void;
  /** Seconds that the real cloud takes, from and to. */
  seconds?: Partial<Record<'create' | 'update' | 'delete' | 'start' | 'stop', readonly [number, number]>>;
  /** The word of its present state. */
  status?: StatusWords;
  /** Whether an update is a start or a stop, for its words and timing. */
  updateKind?(resource: CloudResource, changes: readonly InputChange[], news: Properties): 'update' | 'start' | 'stop';
}

export interface StatusWords {
  /** Path in the outputs. */
  property: string;
  creating: string;
  ready: string | ((inputs: Properties) => string);
  updating: string;
  deleting: string;
  failed: string;
  starting?: string;
  stopping?: string;
}

export interface Effects {
  scene: Scene;
  put(resource: CloudResource): void;
  remove(resource: CloudResource): void;
}

export interface PackageRules {
  name: CloudPackage;
  types: Readonly<Record<string, ResourceRules>>;
  /** For a type that is in no table (a custom resource); undefined: there is no such type. */
  unlistedType?(type: string): ResourceTable | undefined;
  /** For every type that has such an input. */
  commonReplaceOn: readonly string[];
  /** Complaints about the provider's arguments. */
  complainOfConfig?(config: Properties): Complaint[];
  /** The provider's arguments as every rule sees them. */
  readConfig(args: Properties): Properties;
  /** A rule for each type that has none of its own. */
  plainType?: ResourceRules;
  /** What holds before any operation on any type, such as that the cluster answers. Throws CloudError. */
  refuseCall?(type: string, inputs: Properties, scene: Scene, operation: CloudOperation): void;
  /** Where an id is unique. */
  scopeOf(type: string, properties: Properties, config: Properties): string;
  /** Inputs after check for every type: name and defaults. */
  fillInputs(request: FillRequest): Properties;
  /** Outputs that are known before it is made. */
  knownOutputs(type: string, inputs: Properties, scene: Scene): Properties;
  defaultId(type: string, inputs: Properties, scene: Scene, logicalName: string): string;
  /** A value for an output that no rule tells. */
  makeOutput(output: {
    type: string;
    property: string;
    kind: string;
    id: string;
    inputs: Properties;
    scene: Scene;
  }): unknown;
  /** The text by which this cloud refuses for the reason of a fault. */
  faultError(
    fault: CloudFault,
    at: { type: string; operation: CloudOperation; name: string; inputs: Properties },
  ): CloudError;
  /** A second operation on one that is under way. */
  conflictError(resource: CloudResource, operation: CloudOperation): CloudError;
  /** Creating one that exists: undefined takes it over (server-side apply). */
  existsError(type: string, id: string, inputs: Properties, scene: Scene): CloudError | undefined;
  goneError(type: string, id: string): CloudError;
  invoke(token: string, args: Properties, scene: Scene): Properties;
}

export interface FillRequest {
  type: string;
  logicalName: string;
  rules: ResourceRules;
  table: ResourceTable;
  news: Properties;
  /** Of the existing resource; undefined for a new one. */
  olds: Properties | undefined;
  /** From the engine, the same in preview and update; empty: none. */
  randomSeed: Uint8Array;
  /** The engine's own choice of a name; null: it forbids automatic ones. */
  proposedName: string | null | undefined;
  scene: Scene;
}
