/**
 * A language host that runs generated programs without an SDK: it says to the engine's monitor what an SDK would say, one resource after
 * another. The engine dials it by PULUMI_DEBUG_LANGUAGES=nodejs:PORT.
 */
import grpc from '@grpc/grpc-js';
import aliases from '@pulumi/pulumi/proto/alias_pb.js';
import languageServices from '@pulumi/pulumi/proto/language_grpc_pb.js';
import languages from '@pulumi/pulumi/proto/language_pb.js';
import type { RunRequest } from '@pulumi/pulumi/proto/language_pb.js';
import plugin from '@pulumi/pulumi/proto/plugin_pb.js';
import monitorServices from '@pulumi/pulumi/proto/resource_grpc_pb.js';
import monitor from '@pulumi/pulumi/proto/resource_pb.js';
import type { ReadResourceResponse, RegisterResourceResponse } from '@pulumi/pulumi/proto/resource_pb.js';
import empty from 'google-protobuf/google/protobuf/empty_pb.js';
import struct from 'google-protobuf/google/protobuf/struct_pb.js';
import { toStruct } from '../../sandbox/pulumi/properties.ts';
import { startGrpcServer, unary } from './grpc-server.ts';
import { PROJECT, STACK_REFERENCE, STACK_TYPE, type Wished } from './program.ts';

export interface Running {
  resources: Wished[];
  outputs: Record<string, unknown>;
  /** After what could not be made goes on what does not need it. */
  isContinuing: boolean;
  /** What hangs on nothing that is still being made is begun at once. */
  isParallel: boolean;
}

export interface SimLanguage {
  port: number;
  /** What the stack's next run registers. */
  wish(stackName: string, running: Running): void;
  close(): void;
}

/** Pulumi's mark of a secret on the wire. */
const SIGNATURE = '4dabf18193072939515e22adb298388d';
const SECRET = '1b47061264138c4ac30d75fd1eb44270';

export async function startSimLanguage(): Promise<SimLanguage> {
  const wishes = new Map<string, Running>();
  const run = async (request: RunRequest) => {
    const wish = wishes.get(request.getStack());
    const response = new languages.RunResponse();
    if (!wish) return response.setError(`nothing is wished for ${request.getStack()}`);
    const monitorClient = new monitorServices.ResourceMonitorClient(
      request.getMonitorAddress(),
      grpc.credentials.createInsecure(),
    );
    try {
      return response.setBail(!(await runProgram(monitorClient, request.getStack(), wish)));
    } finally {
      monitorClient.close();
    }
  };
  const server = await startGrpcServer(languageServices.LanguageRuntimeService, {
    handshake: unary(() => new languages.LanguageHandshakeResponse()),
    getPluginInfo: unary(() => new plugin.PluginInfo().setVersion('1.0.0')),
    getRequiredPlugins: unary(() => new languages.GetRequiredPluginsResponse()),
    getRequiredPackages: unary(() => new languages.GetRequiredPackagesResponse()),
    getProgramDependencies: unary(() => new languages.GetProgramDependenciesResponse()),
    runtimeOptionsPrompts: unary(() => new languages.RuntimeOptionsResponse()),
    about: unary(() => new languages.AboutResponse()),
    cancel: unary(() => new empty.Empty()),
    run: unary(run),
  });
  return {
    port: server.port,
    wish: (stackName, running) => void wishes.set(stackName, running),
    close: server.close,
  };
}

interface Registered {
  urn: string;
  id: string;
}

type Monitor = InstanceType<typeof monitorServices.ResourceMonitorClient>;

/** @returns false: something could not be registered */
async function runProgram(client: Monitor, stackName: string, wish: Running): Promise<boolean> {
  const root = `${PROJECT}-${stackName}`;
  const rootRequest = new monitor.RegisterResourceRequest().setType(STACK_TYPE).setName(root);
  const { urn: rootUrn } = await register(client, rootRequest.setObject(toStruct({})));
  const made = new Map<string, Promise<Registered | null>>();
  let isFailed = false;
  const make = async (wished: Wished): Promise<Registered | null> => {
    const needed = await Promise.all(needsOf(wished).map((name) => made.get(name) ?? Promise.resolve(null)));
    if (needed.includes(null) || (isFailed && !wish.isContinuing)) return null;
    const known = new Map<string, Registered>();
    for (const [index, name] of needsOf(wished).entries()) known.set(name, needed[index] as Registered);
    try {
      return await registerWished(client, wished, { stackName, rootUrn }, known);
    } catch {
      isFailed = true;
      return null;
    }
  };
  for (const wished of wish.resources) {
    const making = make(wished);
    made.set(wished.name, making);
    if (!wish.isParallel) await making;
  }
  await Promise.all(made.values());
  if (isFailed && !wish.isContinuing) return false;
  try {
    await registerOutputs(client, rootUrn, wish.outputs);
  } catch {
    return false;
  }
  await shutDown(client);
  return !isFailed;
}

function needsOf({ refs, dependsOn, parent, provider, deletedWith, replaceWith }: Wished): string[] {
  const others = [...Object.values(refs), ...dependsOn, parent, provider, deletedWith, ...replaceWith];
  return [...new Set(others.filter((name) => name !== null))];
}

async function registerWished(
  client: Monitor,
  wished: Wished,
  { stackName, rootUrn }: { stackName: string; rootUrn: string },
  known: ReadonlyMap<string, Registered>,
): Promise<Registered> {
  const urnOf = (name: string): string => known.get(name)?.urn ?? '';
  const parent = wished.parent === null ? rootUrn : urnOf(wished.parent);
  const dependencies = [...new Set([...wished.dependsOn, ...Object.values(wished.refs)])].map(urnOf).sort();
  const provider = known.get(wished.provider ?? '');
  const inputs: Record<string, unknown> = { ...wished.inputs };
  for (const [key, name] of Object.entries(wished.refs)) inputs[key] = known.get(name)?.id ?? '';
  for (const key of wished.secrets) if (key in inputs) inputs[key] = { [SIGNATURE]: SECRET, value: inputs[key] };
  const reference = provider ? `${provider.urn}::${provider.id}` : '';
  if (wished.kind === 'read') {
    const self = `organization/${PROJECT}/${stackName}`;
    const id = wished.type === STACK_REFERENCE ? self : (wished.id ?? '');
    if (wished.type === STACK_REFERENCE) inputs['name'] = self;
    const request = new monitor.ReadResourceRequest()
      .setType(wished.type)
      .setName(wished.name)
      .setId(id)
      .setParent(parent)
      .setProvider(reference)
      .setProperties(toStruct(inputs))
      .setDependenciesList(dependencies)
      .setAcceptsecrets(true)
      .setAdditionalsecretoutputsList(wished.secretOutputs);
    return { urn: (await read(client, request)).getUrn(), id };
  }
  const request = new monitor.RegisterResourceRequest()
    .setType(wished.type)
    .setName(wished.name)
    .setParent(parent)
    .setCustom(wished.kind !== 'component')
    .setObject(toStruct(inputs))
    .setProtect(wished.isProtected)
    .setDependenciesList(dependencies)
    .setProvider(reference)
    .setDeletebeforereplace(wished.deleteBeforeReplace === true)
    .setDeletebeforereplacedefined(wished.deleteBeforeReplace !== null)
    .setIgnorechangesList(wished.ignoreChanges)
    .setReplaceonchangesList(wished.replaceOnChanges)
    .setAdditionalsecretoutputsList(wished.secretOutputs)
    .setImportid(wished.kind === 'custom' ? (wished.id ?? '') : '')
    .setRetainondelete(wished.isRetained)
    .setDeletedwith(wished.deletedWith === null ? '' : urnOf(wished.deletedWith))
    .setReplaceWithList(wished.replaceWith.map(urnOf))
    .setAliasesList(wished.aliases.map((alias) => toAlias(alias, rootUrn, urnOf)))
    .setAliasspecs(true)
    .setAcceptsecrets(true)
    .setSupportspartialvalues(true)
    .setSupportsresultreporting(true);
  if (wished.trigger > 0) request.setReplacementTrigger(struct.Value.fromJavaScript(wished.trigger));
  for (const [key, name] of Object.entries(wished.refs)) {
    const on = new monitor.RegisterResourceRequest.PropertyDependencies().setUrnsList([urnOf(name)]);
    request.getPropertydependenciesMap().set(key, on);
  }
  const registered = await register(client, request);
  if (wished.kind === 'component') await registerOutputs(client, registered.urn, { of: wished.name });
  return registered;
}

function toAlias({ name, parent }: Wished['aliases'][number], rootUrn: string, urnOf: (name: string) => string) {
  const spec = new aliases.Alias.Spec();
  if (name !== undefined) spec.setName(name);
  if (parent === null) spec.setParenturn(rootUrn);
  else if (parent !== undefined) spec.setParenturn(urnOf(parent));
  return new aliases.Alias().setSpec(spec);
}

/** Throws where it was not made. */
async function register(
  client: Monitor,
  request: InstanceType<typeof monitor.RegisterResourceRequest>,
): Promise<Registered> {
  const response = await new Promise<RegisterResourceResponse>((resolve, reject) => {
    client.registerResource(request, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
  if (response.getResult() !== monitor.Result.SUCCESS) throw new Error(`${request.getName()} was not made`);
  return { urn: response.getUrn(), id: response.getId() };
}

function read(
  client: Monitor,
  request: InstanceType<typeof monitor.ReadResourceRequest>,
): Promise<ReadResourceResponse> {
  return new Promise((resolve, reject) => {
    client.readResource(request, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

function registerOutputs(client: Monitor, urn: string, outputs: Record<string, unknown>): Promise<void> {
  const request = new monitor.RegisterResourceOutputsRequest().setUrn(urn).setOutputs(toStruct(outputs));
  return new Promise((resolve, reject) => {
    client.registerResourceOutputs(request, (error) => (error ? reject(error) : resolve()));
  });
}

/** As SDKs do at their end: deletes begin only then. */
function shutDown(client: Monitor): Promise<void> {
  return new Promise((resolve) => {
    client.signalAndWaitForShutdown(new empty.Empty(), () => resolve());
  });
}
