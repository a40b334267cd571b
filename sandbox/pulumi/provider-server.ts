/**
 * A simulated cloud at the engine's own wire: the gRPC service of a resource provider, as the real plugins serve it. The engine dials
 * it when PULUMI_DEBUG_PROVIDERS names its port. Several provider instances (regions, clusters, engines) share the
 * port: each is a connection of its own, known by its peer address.
 */
import grpc from '@grpc/grpc-js';
import plugin from '@pulumi/pulumi/proto/plugin_pb.js';
import services from '@pulumi/pulumi/proto/provider_grpc_pb.js';
import messages from '@pulumi/pulumi/proto/provider_pb.js';
import type {
  CheckRequest,
  ConfigureRequest,
  CreateRequest,
  DeleteRequest,
  DiffRequest,
  InvokeRequest,
  ReadRequest,
  UpdateRequest,
} from '@pulumi/pulumi/proto/provider_pb.js';
import status from '@pulumi/pulumi/proto/status_pb.js';
import any from 'google-protobuf/google/protobuf/any_pb.js';
import empty from 'google-protobuf/google/protobuf/empty_pb.js';
import { NotReadyError, PortInUseError } from '../http-listener.ts';
import type { Complaint } from './check-inputs.ts';
import type { Asker, Cloud, ResourceDiff } from './cloud.ts';
import { UnfinishedError } from './cloud-error.ts';
import { fromStruct, isSame, toStruct, type Properties } from './properties.ts';

export interface CloudServerOptions {
  port: number;
  cloud: Cloud;
  /** What the plugin says it is: the SDK's own version. */
  version: string;
  /** The engine of this connection wants no more. */
  onCancel(peer: string): void;
}

export interface CloudServer {
  port: number;
  close(): void;
}

/** As the engine's own limit: a thousand resources' outputs in one message are far below. */
const MAX_MESSAGE_BYTES = 400 * 1024 * 1024;
/** Connections do not say goodbye; far more than can be open at once. */
const MAX_CONNECTIONS = 1_000;
/** A predecessor that was just told to go may hold its port for a moment. */
const PORT_RETRIES = 15;
const PORT_RETRY_MS = 100;

const { CheckFailure, CheckResponse, CreateResponse, DiffResponse, PropertyDiff, ReadResponse } = messages;

/** Listens on loopback; port 0 takes a free one. Throws PortInUseError. */
export async function startCloudServer(options: CloudServerOptions): Promise<CloudServer> {
  const server = new grpc.Server({ 'grpc.max_receive_message_length': MAX_MESSAGE_BYTES });
  server.addService(services.ResourceProviderService, createHandlers(options));
  for (let attempt = 0; ; attempt++) {
    try {
      const port = await bind(server, options.port);
      return { port, close: () => server.forceShutdown() };
    } catch {
      if (attempt >= PORT_RETRIES) throw new PortInUseError(options.port);
      await new Promise((resolve) => setTimeout(resolve, PORT_RETRY_MS));
    }
  }
}

function bind(server: grpc.Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
}

function createHandlers({ cloud, version, onCancel }: CloudServerOptions): grpc.UntypedServiceImplementation {
  const configs = new Map<string, Properties>();
  /** After a restart of the sandbox the engine's connection comes back, and the engine does not configure it again. */
  const askerOf = (peer: string): Asker => {
    const config = configs.get(peer);
    if (!config)
      throw new Error('the provider is not configured: the sandbox was restarted in the middle of an update');
    return { peer, config };
  };
  const configure = (peer: string, config: Properties): void => {
    configs.set(peer, config);
    const [oldest] = configs.keys();
    if (configs.size > MAX_CONNECTIONS && oldest !== undefined) configs.delete(oldest);
  };
  return {
    attach: unary(() => new empty.Empty()),
    getPluginInfo: unary(() => new plugin.PluginInfo().setVersion(version)),
    // It says so at the end of every update too; the server goes on.
    cancel: unary((_request: unknown, peer) => {
      onCancel(peer);
      return new empty.Empty();
    }),
    checkConfig: unary((request: CheckRequest) =>
      new CheckResponse()
        .setInputs(request.getNews())
        .setFailuresList(cloud.checkConfig(fromStruct(request.getNews())).map(toFailure)),
    ),
    diffConfig: unary((request: DiffRequest) => {
      const isEqual = isSame(fromStruct(request.getOldInputs()), fromStruct(request.getNews()));
      const { DIFF_NONE, DIFF_SOME } = DiffResponse.DiffChanges;
      return new DiffResponse().setChanges(isEqual ? DIFF_NONE : DIFF_SOME);
    }),
    configure: unary((request: ConfigureRequest, peer) => {
      configure(peer, fromStruct(request.getArgs()));
      return new messages.ConfigureResponse().setAcceptsecrets(false).setSupportspreview(true);
    }),
    check: unary((request: CheckRequest, peer) => check(cloud, askerOf(peer), request)),
    diff: unary((request: DiffRequest) => {
      const ignored = request.getIgnorechangesList();
      const { type } = readUrn(request.getUrn());
      return toDiff(cloud.diff(type, fromStruct(request.getOldInputs()), fromStruct(request.getNews()), ignored));
    }),
    create: unary(async (request: CreateRequest, peer) => {
      const { type, name } = readUrn(request.getUrn());
      const inputs = fromStruct(request.getProperties());
      if (request.getPreview()) {
        return new CreateResponse().setProperties(toStruct(cloud.previewCreate(askerOf(peer), type, inputs)));
      }
      const { id, properties } = await cloud.create(askerOf(peer), type, name, inputs);
      return new CreateResponse().setId(id).setProperties(toStruct(properties));
    }),
    read: unary((request: ReadRequest, peer) => read(cloud, askerOf(peer), request)),
    update: unary(async (request: UpdateRequest, peer) => {
      const { type } = readUrn(request.getUrn());
      const olds = fromStruct(request.getOlds());
      const news = fromStruct(request.getNews());
      const properties = request.getPreview()
        ? cloud.previewUpdate(type, olds, fromStruct(request.getOldInputs()), news)
        : await cloud.update(askerOf(peer), type, request.getId(), olds, news);
      return new messages.UpdateResponse().setProperties(toStruct(properties));
    }),
    delete: unary(async (request: DeleteRequest, peer) => {
      const { type } = readUrn(request.getUrn());
      await cloud.delete(askerOf(peer), type, request.getId(), fromStruct(request.getProperties()));
      return new empty.Empty();
    }),
    invoke: unary((request: InvokeRequest, peer) => {
      const answer = cloud.invoke(askerOf(peer), request.getTok(), fromStruct(request.getArgs()));
      if (!answer) throw new Error(`the simulated cloud does not know the function ${request.getTok()}`);
      return new messages.InvokeResponse()
        .setReturn(toStruct(answer.result))
        .setFailuresList(answer.failures.map(toFailure));
    }),
  };
}

function check(cloud: Cloud, asker: Asker, request: CheckRequest) {
  const { type, name } = readUrn(request.getUrn());
  const autonaming = request.getAutonaming();
  const { DISABLE } = messages.CheckRequest.AutonamingOptions.Mode;
  const { inputs, failures } = cloud.check(asker, {
    type,
    logicalName: name,
    news: fromStruct(request.getNews()),
    olds: request.hasOlds() ? fromStruct(request.getOlds()) : undefined,
    randomSeed: request.getRandomseed_asU8(),
    proposedName: autonaming && (autonaming.getMode() === DISABLE ? null : autonaming.getProposedName()),
  });
  return new CheckResponse().setInputs(toStruct(inputs)).setFailuresList(failures.map(toFailure));
}

function read(cloud: Cloud, asker: Asker, request: ReadRequest) {
  const { type } = readUrn(request.getUrn());
  const known = fromStruct(request.getInputs());
  const found = cloud.read(asker, type, request.getId(), fromStruct(request.getProperties()), known);
  const response = new ReadResponse();
  if (!found) return response;
  return response.setId(found.id).setProperties(toStruct(found.properties)).setInputs(toStruct(found.inputs));
}

function toDiff({ changes, isDeletedFirst }: ResourceDiff) {
  const { DIFF_NONE, DIFF_SOME } = DiffResponse.DiffChanges;
  const { ADD, ADD_REPLACE, DELETE, DELETE_REPLACE, UPDATE, UPDATE_REPLACE } = PropertyDiff.Kind;
  const kinds = {
    add: [ADD, ADD_REPLACE],
    delete: [DELETE, DELETE_REPLACE],
    update: [UPDATE, UPDATE_REPLACE],
  } as const;
  const top = (path: string): string => /^[^.[]+/.exec(path)?.[0] ?? path;
  const replaces = changes.filter(({ isReplacing }) => isReplacing).map(({ path }) => top(path));
  const response = new DiffResponse()
    .setChanges(changes.length > 0 ? DIFF_SOME : DIFF_NONE)
    .setDiffsList([...new Set(changes.map(({ path }) => top(path)))])
    .setReplacesList([...new Set(replaces)])
    .setDeletebeforereplace(replaces.length > 0 && isDeletedFirst)
    .setHasdetaileddiff(changes.length > 0);
  for (const { path, kind, isReplacing } of changes) {
    const difference = new PropertyDiff().setKind(kinds[kind][isReplacing ? 1 : 0]).setInputdiff(true);
    response.getDetaileddiffMap().set(path, difference);
  }
  return response;
}

function toFailure({ property, reason }: Complaint) {
  return new CheckFailure().setProperty(property).setReason(reason);
}

/** `urn:pulumi:stack::project::parent$type::name` */
function readUrn(urn: string): { type: string; name: string } {
  const [, , types = '', ...name] = urn.split('::');
  return { type: types.split('$').at(-1) ?? '', name: name.join('::') };
}

/** A gRPC method whose throw becomes the engine's error; an unfinished one keeps the resource in the state with init errors. */
function unary<Request, Response>(
  handle: (request: Request, peer: string) => Response | Promise<Response>,
): grpc.handleUnaryCall<Request, Response> {
  const answer = async (
    call: grpc.ServerUnaryCall<Request, Response>,
    callback: grpc.sendUnaryData<Response>,
  ): Promise<void> => {
    let response: Response;
    try {
      response = await handle(call.request, call.getPeer());
    } catch (error) {
      callback(toGrpcError(error));
      return;
    }
    callback(null, response);
  };
  return (call, callback) => void answer(call, callback);
}

function toGrpcError(error: unknown): Partial<grpc.StatusObject> {
  const details = error instanceof Error ? error.message : String(error);
  if (error instanceof NotReadyError) return { code: grpc.status.UNAVAILABLE, details };
  const metadata = new grpc.Metadata();
  if (error instanceof UnfinishedError) {
    const detail = new messages.ErrorResourceInitFailed()
      .setId(error.id)
      .setProperties(toStruct(error.properties))
      .setInputs(toStruct(error.inputs))
      .setReasonsList([details]);
    const packed = new any.Any();
    packed.pack(detail.serializeBinary(), 'pulumirpc.ErrorResourceInitFailed');
    const message = new status.Status().setCode(grpc.status.UNKNOWN).setMessage(details).setDetailsList([packed]);
    // The name under which gRPC carries structured errors; the result is the engine's partial failure.
    metadata.add('grpc-status-details-bin', Buffer.from(message.serializeBinary()));
  }
  return { code: grpc.status.UNKNOWN, details, metadata };
}
