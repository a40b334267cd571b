/**
 * The server of dynamic resources that the engine attaches to (PULUMI_DEBUG_PROVIDERS=pulumi-nodejs:PORT). It behaves as the stock
 * plugin process does, with the same CRUD, and does what that one cannot: it can be attached, it says which inputs differ, and no
 * process outlives the operation child.
 */
import { createRequire } from 'node:module';
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
import type { DynamicCrud, DiffResult, PartialFailure, Properties } from '../../../providers-dynamic/dynamic-crud.ts';
import { UNKNOWN_VALUE } from '../../../providers-dynamic/dynamic-crud.ts';
import { dynamicCrud } from '../../../providers-dynamic/entry.ts';
import { providerOfShim } from '../../../providers-dynamic/shim.ts';
import { fromStruct, toStruct } from './struct.ts';

export interface ProviderServerOptions {
  /** A create, update or delete failed, with the error as it was thrown: the engine passes on its text only. */
  onError?: (urn: string, error: unknown) => void;
}

export interface ProviderServer {
  port: number;
  close(): void;
}

/** As the SDK's own: a thousand resources' outputs in one message are far below. */
const MAX_MESSAGE_BYTES = 400 * 1024 * 1024;
const PROVIDER_KEY = '__provider';
const { CheckFailure, CheckResponse, ConfigureResponse, CreateResponse, DiffResponse, PropertyDiff, ReadResponse } =
  messages;

export async function startProviderServer(options: ProviderServerOptions): Promise<ProviderServer> {
  const server = new grpc.Server({ 'grpc.max_receive_message_length': MAX_MESSAGE_BYTES });
  server.addService(services.ResourceProviderService, createHandlers(options));
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { port, close: () => server.forceShutdown() };
}

function createHandlers({ onError }: ProviderServerOptions): grpc.UntypedServiceImplementation {
  const reporting = <T>(urn: string, work: Promise<T>): Promise<T> =>
    work.catch((error: unknown) => {
      onError?.(urn, error);
      throw error;
    });
  return {
    attach: unary(() => new empty.Empty()),
    // Said at the end of every update too, and maybe when the next one has begun: whoever cancels tells the operation child itself.
    cancel: unary(() => new empty.Empty()),
    getPluginInfo: unary(() => new plugin.PluginInfo().setVersion(SDK_VERSION)),
    configure: unary(configure),
    check: unary(check),
    diff: unary(diff),
    create: unary((request: CreateRequest) => reporting(request.getUrn(), create(request))),
    read: unary(read),
    update: unary((request: UpdateRequest) => reporting(request.getUrn(), update(request))),
    delete: unary((request: DeleteRequest) => reporting(request.getUrn(), remove(request))),
  };
}

/** The stack's whole configuration comes here; it is not read. No secrets are accepted, so the engine marks answers itself. */
function configure() {
  return new ConfigureResponse().setAcceptsecrets(false).setSupportspreview(false);
}

async function check(request: CheckRequest) {
  const olds = fromStruct(request.getOlds());
  const news = fromStruct(request.getNews());
  const crud = crudOf(news[PROVIDER_KEY] === UNKNOWN_VALUE ? olds : news);
  const { inputs, failures } = (await crud.check?.(olds, news)) ?? {};
  return new CheckResponse()
    .setInputs(toStruct({ ...(inputs ?? news), [PROVIDER_KEY]: news[PROVIDER_KEY] }))
    .setFailuresList(
      (failures ?? []).map((failure) => new CheckFailure().setProperty(failure.property).setReason(failure.reason)),
    );
}

async function diff(request: DiffRequest) {
  const olds = fromStruct(request.getOlds());
  const news = fromStruct(request.getNews());
  const result = await crudOf(news[PROVIDER_KEY] === UNKNOWN_VALUE ? olds : news).diff?.(request.getId(), olds, news);
  // Unknown: the engine compares the inputs itself.
  if (!result) return new DiffResponse();
  return describeDiff(result, new Set(request.getIgnorechangesList()));
}

function describeDiff(result: DiffResult, ignored: Set<string>) {
  const { DIFF_NONE, DIFF_SOME } = DiffResponse.DiffChanges;
  const { UPDATE, UPDATE_REPLACE } = PropertyDiff.Kind;
  const replaces = result.replaces.filter((field) => !ignored.has(field));
  // A provider that gives no detail (an unknown shim) still says whether anything changes.
  const changed = (result.changed ?? []).filter((field) => !ignored.has(field));
  const hasChanges = result.changed === undefined ? result.changes : changed.length > 0;
  const response = new DiffResponse()
    .setChanges(hasChanges ? DIFF_SOME : DIFF_NONE)
    .setReplacesList(replaces)
    .setDeletebeforereplace(result.deleteBeforeReplace === true)
    .setDiffsList(changed)
    .setHasdetaileddiff(changed.length > 0);
  for (const field of changed) {
    response
      .getDetaileddiffMap()
      .set(field, new PropertyDiff().setKind(replaces.includes(field) ? UPDATE_REPLACE : UPDATE));
  }
  return response;
}

/** In a preview nothing may be bought: the wanted properties are returned, what only a purchase tells is left out. */
async function create(request: CreateRequest) {
  const inputs = fromStruct(request.getProperties());
  if (request.getPreview()) return new CreateResponse().setProperties(toStruct(inputs));
  const { id, outs } = await crudOf(inputs).create(inputs);
  return new CreateResponse().setId(id).setProperties(withProvider(outs, inputs));
}

async function read(request: ReadRequest) {
  const props = fromStruct(request.getProperties());
  const response = new ReadResponse();
  const crud = crudOf(props);
  if (!crud.read)
    return response.setId(request.getId()).setProperties(request.getProperties()).setInputs(request.getInputs());
  const result = await crud.read(request.getId(), props);
  if (result.id === undefined || result.id === '') return response;
  return response.setId(result.id).setProperties(withProvider(result.props, props)).setInputs(request.getInputs());
}

async function update(request: UpdateRequest) {
  const olds = fromStruct(request.getOlds());
  const news = fromStruct(request.getNews());
  const response = new messages.UpdateResponse();
  if (request.getPreview()) return response.setProperties(toStruct({ ...olds, ...news }));
  const result = await crudOf(news).update?.(request.getId(), olds, news);
  return response.setProperties(withProvider(result?.outs, news));
}

async function remove(request: DeleteRequest) {
  const props = fromStruct(request.getProperties());
  await crudOf(props).delete?.(request.getId(), props);
  return new empty.Empty();
}

function withProvider(outs: Properties | undefined, source: Properties) {
  return toStruct({ ...outs, [PROVIDER_KEY]: source[PROVIDER_KEY] });
}

const sdkRequire = createRequire(createRequire(import.meta.url).resolve('@pulumi/pulumi/package.json'));
const SDK_VERSION = (sdkRequire('./package.json') as { version: string }).version;
/** What a text that is not ours may offer; the stock server does without the rest. */
type EvaluatedCrud = Partial<DynamicCrud> & Pick<DynamicCrud, 'create'>;
const evaluated = new Map<string, EvaluatedCrud>();

/** Our own shim is not run, only recognised; any other text is evaluated, as the stock server does. */
function crudOf(properties: Properties): EvaluatedCrud {
  const text = properties[PROVIDER_KEY];
  if (typeof text !== 'string' || text === UNKNOWN_VALUE) throw new Error('the resource has no provider text');
  const provider = providerOfShim(text);
  if (provider !== null) return dynamicCrud(provider);
  let crud = evaluated.get(text);
  if (!crud) {
    const evaluate = sdkRequire('require-from-string') as (text: string) => { handler: () => EvaluatedCrud };
    crud = evaluate(text).handler();
    evaluated.set(text, crud);
  }
  return crud;
}

/** A gRPC method whose throw becomes the engine's error; one with an id keeps the resource in the state with init errors. */
function unary<Request, Response>(
  handle: (request: Request) => Response | Promise<Response>,
): grpc.handleUnaryCall<Request, Response> {
  const answer = async (request: Request, callback: grpc.sendUnaryData<Response>): Promise<void> => {
    let response: Response;
    try {
      response = await handle(request);
    } catch (error) {
      callback(toGrpcError(error));
      return;
    }
    callback(null, response);
  };
  return (call, callback) => void answer(call.request, callback);
}

function toGrpcError(error: unknown): Partial<grpc.StatusObject> {
  const details = error instanceof Error ? error.message : String(error);
  const metadata = new grpc.Metadata();
  const failure = asPartialFailure(error);
  if (failure) {
    const detail = new messages.ErrorResourceInitFailed()
      .setId(failure.id)
      .setProperties(toStruct(failure.properties))
      .setReasonsList(failure.reasons);
    const packed = new any.Any();
    packed.pack(detail.serializeBinary(), 'pulumirpc.ErrorResourceInitFailed');
    const message = new status.Status().setCode(grpc.status.UNKNOWN).setMessage(details).setDetailsList([packed]);
    // The name under which gRPC carries structured errors; the result is the engine's partial failure.
    metadata.add('grpc-status-details-bin', Buffer.from(message.serializeBinary()));
  }
  return { code: grpc.status.UNKNOWN, details, metadata };
}

type PartialFailureLike = Pick<PartialFailure, 'id' | 'properties' | 'reasons'>;

/** Also what evaluated texts throw: any error with an id. */
function asPartialFailure(error: unknown): PartialFailureLike | null {
  if (typeof error !== 'object' || error === null || !('id' in error) || typeof error.id !== 'string') return null;
  const { properties, reasons } = error as Partial<PartialFailureLike>;
  return { id: error.id, properties: properties ?? {}, reasons: reasons ?? [] };
}
