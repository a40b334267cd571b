/**
 * A provider for generated programs, at the engine's own wire: things with a size (changed in place), a zone (means a new one) and whatever
 * else, kept in a cloud for each stack, with the faults that its next update is to meet. Ids and answers depend on nothing but what was
 * asked before, so two stacks that were asked the same are the same.
 */
import grpc from '@grpc/grpc-js';
import plugin from '@pulumi/pulumi/proto/plugin_pb.js';
import services from '@pulumi/pulumi/proto/provider_grpc_pb.js';
import messages from '@pulumi/pulumi/proto/provider_pb.js';
import type {
  CheckRequest,
  CreateRequest,
  DeleteRequest,
  DiffRequest,
  ReadRequest,
  UpdateRequest,
} from '@pulumi/pulumi/proto/provider_pb.js';
import status from '@pulumi/pulumi/proto/status_pb.js';
import any from 'google-protobuf/google/protobuf/any_pb.js';
import empty from 'google-protobuf/google/protobuf/empty_pb.js';
import { parseUrn } from '../../domain/state/urn.ts';
import { fromStruct, isSame, toStruct, type Properties } from '../../sandbox/pulumi/properties.ts';
import { startGrpcServer, unary, type GrpcServer } from './grpc-server.ts';

export const PROVIDER = 'sim';

export type FaultOp = 'create' | 'update' | 'delete' | 'read';

export interface Fault {
  op: FaultOp;
  /** Of the resource, without its type. */
  name: string;
  /** `partial`: it is made, and not whole. */
  kind: 'fail' | 'partial';
}

/** Of a resource that the cloud holds. */
export interface Thing {
  id: string;
  /** By which it was made; empty: it was always there. */
  urn: string;
  inputs: Properties;
  /** Rises with every change. */
  revision: number;
}

export interface SimCloud {
  things: Map<string, Thing>;
  /** How many of a name were made. */
  made: Map<string, number>;
  faults: Fault[];
  /** Called at the begin and at the end of what changes the cloud; one that never answers keeps the engine waiting. */
  onChange: ((when: 'before' | 'after') => Promise<void>) | null;
}

export interface SimProvider {
  port: number;
  /** Of a stack; made at the first look. */
  cloud(stackName: string): SimCloud;
  forget(stackName: string): void;
  close(): void;
}

/** Ids with this prefix are there from the beginning: what a program imports or only reads. */
export const FOREIGN = 'foreign-';

const { CheckResponse, CreateResponse, DiffResponse, ReadResponse, UpdateResponse } = messages;

export async function startSimProvider(): Promise<SimProvider> {
  const clouds = new Map<string, SimCloud>();
  const cloud = (stackName: string): SimCloud => {
    const known = clouds.get(stackName);
    if (known) return known;
    const fresh: SimCloud = { things: new Map(), made: new Map(), faults: [], onChange: null };
    clouds.set(stackName, fresh);
    return fresh;
  };
  const server: GrpcServer = await startGrpcServer(services.ResourceProviderService, createHandlers(cloud));
  return { port: server.port, cloud, forget: (stackName) => void clouds.delete(stackName), close: server.close };
}

function createHandlers(cloudOf: (stackName: string) => SimCloud): grpc.UntypedServiceImplementation {
  const at = (urn: string) => {
    const { stack, name } = parseUrn(urn);
    return { cloud: cloudOf(stack.replace(/^urn:pulumi:/, '')), name };
  };
  const method = <Request, Response>(handle: (request: Request) => Response | Promise<Response>) =>
    unary(handle, describe);
  return {
    attach: unary(() => new empty.Empty()),
    getPluginInfo: unary(() => new plugin.PluginInfo().setVersion('1.0.0')),
    cancel: unary(() => new empty.Empty()),
    checkConfig: unary((request: CheckRequest) => new CheckResponse().setInputs(request.getNews())),
    diffConfig: unary((request: DiffRequest) => diff(request)),
    configure: unary(() => new messages.ConfigureResponse().setAcceptsecrets(false).setSupportspreview(true)),
    check: unary((request: CheckRequest) => new CheckResponse().setInputs(toStruct(fromStruct(request.getNews())))),
    diff: unary((request: DiffRequest) => diff(request)),
    create: method(async (request: CreateRequest) => {
      const { cloud, name } = at(request.getUrn());
      const inputs = fromStruct(request.getProperties());
      await cloud.onChange?.('before');
      const fault = findFault(cloud, 'create', name);
      if (fault?.kind === 'fail') throw new Error(`${name} cannot be made`);
      const count = (cloud.made.get(name) ?? 0) + 1;
      cloud.made.set(name, count);
      const thing: Thing = { id: `${name}-${count}`, urn: request.getUrn(), inputs, revision: 1 };
      cloud.things.set(thing.id, thing);
      await cloud.onChange?.('after');
      if (fault) throw new UnfinishedError(thing);
      return new CreateResponse()
        .setId(thing.id)
        .setProperties(toStruct(outputsOf(thing)))
        .setRefreshBeforeUpdate(isRefreshed(thing));
    }),
    read: method((request: ReadRequest) => {
      const { cloud, name } = at(request.getUrn());
      if (findFault(cloud, 'read', name)) throw new Error(`${name} cannot be read`);
      const thing = findThing(cloud, request.getId());
      if (!thing) return new ReadResponse();
      return new ReadResponse()
        .setId(thing.id)
        .setInputs(toStruct(thing.inputs))
        .setProperties(toStruct(outputsOf(thing)))
        .setRefreshBeforeUpdate(isRefreshed(thing));
    }),
    update: method(async (request: UpdateRequest) => {
      const { cloud, name } = at(request.getUrn());
      await cloud.onChange?.('before');
      const fault = findFault(cloud, 'update', name);
      if (fault?.kind === 'fail') throw new Error(`${name} cannot be changed`);
      const known = findThing(cloud, request.getId());
      if (!known) throw new Error(`there is no ${request.getId()}`);
      const thing = { ...known, inputs: fromStruct(request.getNews()), revision: known.revision + 1 };
      cloud.things.set(thing.id, thing);
      await cloud.onChange?.('after');
      if (fault) throw new UnfinishedError(thing);
      return new UpdateResponse().setProperties(toStruct(outputsOf(thing))).setRefreshBeforeUpdate(isRefreshed(thing));
    }),
    delete: method(async (request: DeleteRequest) => {
      const { cloud, name } = at(request.getUrn());
      await cloud.onChange?.('before');
      if (findFault(cloud, 'delete', name)) throw new Error(`${name} cannot be deleted`);
      cloud.things.delete(request.getId());
      await cloud.onChange?.('after');
      return new empty.Empty();
    }),
  };
}

function diff(request: DiffRequest) {
  const olds = fromStruct(request.getOldInputs());
  const news = fromStruct(request.getNews());
  const ignored = request.getIgnorechangesList();
  const changed = [...new Set([...Object.keys(olds), ...Object.keys(news)])]
    .filter((key) => !key.startsWith('__') && !ignored.includes(key) && !isSame(olds[key], news[key]))
    .sort();
  const { DIFF_NONE, DIFF_SOME } = DiffResponse.DiffChanges;
  const replaces = changed.filter((key) => key === 'zone');
  return new DiffResponse()
    .setChanges(changed.length > 0 ? DIFF_SOME : DIFF_NONE)
    .setDiffsList(changed)
    .setReplacesList(replaces)
    .setDeletebeforereplace(replaces.length > 0 && news['alone'] === true);
}

function findThing(cloud: SimCloud, id: string): Thing | undefined {
  const known = cloud.things.get(id);
  if (known || !id.startsWith(FOREIGN)) return known;
  return { id, urn: '', inputs: { size: 1, zone: 'a' }, revision: 1 };
}

/** Secret inputs come back as they are: the engine knows them by their names. */
function outputsOf({ id, inputs, revision }: Thing): Properties {
  return { ...inputs, address: `at-${id}`, revision, token: `token-of-${id}`, tags: { of: id } };
}

/** It asks to be read before each change. */
function isRefreshed({ inputs }: Thing): boolean {
  return inputs['fresh'] === true;
}

function findFault(cloud: SimCloud, op: FaultOp, name: string): Fault | undefined {
  return cloud.faults.find((fault) => fault.op === op && fault.name === name);
}

class UnfinishedError extends Error {
  readonly thing: Thing;
  constructor(thing: Thing) {
    super(`${thing.id} is not whole`);
    this.name = 'UnfinishedError';
    this.thing = thing;
  }
}

/** What is made and not whole stays in the state with its errors. */
function describe(error: unknown): Partial<grpc.StatusObject> {
  const details = error instanceof Error ? error.message : String(error);
  const metadata = new grpc.Metadata();
  if (error instanceof UnfinishedError) {
    const { id, inputs } = error.thing;
    const detail = new messages.ErrorResourceInitFailed()
      .setId(id)
      .setProperties(toStruct(outputsOf(error.thing)))
      .setInputs(toStruct(inputs))
      .setReasonsList([details])
      .setRefreshBeforeUpdate(isRefreshed(error.thing));
    const packed = new any.Any();
    packed.pack(detail.serializeBinary(), 'pulumirpc.ErrorResourceInitFailed');
    const message = new status.Status().setCode(grpc.status.UNKNOWN).setMessage(details).setDetailsList([packed]);
    metadata.add('grpc-status-details-bin', Buffer.from(message.serializeBinary()));
  }
  return { code: grpc.status.UNKNOWN, details, metadata };
}
