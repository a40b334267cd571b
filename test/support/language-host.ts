/**
 * A small Node language host for tests of directory programs, where the official one is not installed (it ships with Pulumi's
 * release, not with its Go modules). Attached by PULUMI_DEBUG_LANGUAGES=nodejs:PORT. It runs programs as the official one does:
 * `node @pulumi/pulumi/cmd/run`, output passed on to the engine's log.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import grpc from '@grpc/grpc-js';
import engineMessages from '@pulumi/pulumi/proto/engine_pb.js';
import engineServices from '@pulumi/pulumi/proto/engine_grpc_pb.js';
import languageMessages from '@pulumi/pulumi/proto/language_pb.js';
import type { LanguageHandshakeRequest, RunRequest, RunResponse } from '@pulumi/pulumi/proto/language_pb.js';
import languageServices from '@pulumi/pulumi/proto/language_grpc_pb.js';
import plugin from '@pulumi/pulumi/proto/plugin_pb.js';
import empty from 'google-protobuf/google/protobuf/empty_pb.js';

export interface LanguageHost {
  port: number;
  close(): void;
}

/** The exit code by which the SDK says that it has reported its error already. */
const REPORTED_EXIT_CODE = 32;

export async function startLanguageHost(): Promise<LanguageHost> {
  const programs = new Set<ChildProcess>();
  let engineAddress = '';
  const server = new grpc.Server({ 'grpc.max_receive_message_length': 400 * 1024 * 1024 });
  server.addService(languageServices.LanguageRuntimeService, {
    handshake: unary((request: LanguageHandshakeRequest) => {
      engineAddress = request.getEngineAddress();
      return new languageMessages.LanguageHandshakeResponse();
    }),
    getPluginInfo: unary(() => new plugin.PluginInfo().setVersion('3.0.0')),
    getRequiredPlugins: unary(() => new languageMessages.GetRequiredPluginsResponse()),
    getRequiredPackages: unary(() => new languageMessages.GetRequiredPackagesResponse()),
    getProgramDependencies: unary(() => new languageMessages.GetProgramDependenciesResponse()),
    runtimeOptionsPrompts: unary(() => new languageMessages.RuntimeOptionsResponse()),
    about: unary(() =>
      new languageMessages.AboutResponse().setExecutable(process.execPath).setVersion(process.version),
    ),
    run: unary((request: RunRequest) => runProgram(request, engineAddress, programs)),
    cancel: unary(() => {
      for (const program of programs) program.kill('SIGINT');
      return new empty.Empty();
    }),
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return {
    port,
    close() {
      for (const program of programs) program.kill('SIGKILL');
      server.forceShutdown();
    },
  };
}

async function runProgram(
  request: RunRequest,
  engineAddress: string,
  programs: Set<ChildProcess>,
): Promise<RunResponse> {
  const response = new languageMessages.RunResponse();
  const info = request.getInfo();
  if (!info) return response.setError('the engine sent no program info');
  const folder = info.getProgramDirectory();
  const runner = createRequire(join(folder, 'x.js')).resolve('@pulumi/pulumi/cmd/run');
  const options = info.getOptions()?.toJavaScript() ?? {};
  const program = spawn(process.execPath, [runner, ...runnerArguments(request, engineAddress)], {
    cwd: folder,
    env: {
      ...process.env,
      PULUMI_CONFIG: JSON.stringify(Object.fromEntries(request.getConfigMap().toObject())),
      PULUMI_CONFIG_SECRET_KEYS: JSON.stringify(request.getConfigsecretkeysList()),
      // True is the official default.
      ...(options.typescript === false ? {} : { PULUMI_NODEJS_TYPESCRIPT: 'true' }),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  programs.add(program);
  const log = createEngineLog(engineAddress);
  const { INFO, ERROR } = engineMessages.LogSeverity;
  const closed = new Promise<number | string>((resolve) =>
    program.on('close', (code, signal) => resolve(code ?? signal ?? 'unknown')),
  );
  await Promise.all([
    passOn(program.stdout, (line) => log.write(INFO, line)),
    passOn(program.stderr, (line) => log.write(ERROR, line)),
  ]);
  const outcome = await closed;
  log.close();
  programs.delete(program);
  if (outcome === REPORTED_EXIT_CODE) response.setBail(true);
  else if (outcome !== 0) response.setError(`the program ended with ${outcome}`);
  return response;
}

function runnerArguments(request: RunRequest, engineAddress: string): string[] {
  const info = request.getInfo();
  const values: Record<string, string> = {
    monitor: request.getMonitorAddress(),
    engine: engineAddress,
    organization: request.getOrganization(),
    project: request.getProject(),
    'root-directory': info?.getRootDirectory() ?? '',
    stack: request.getStack(),
    pwd: request.getPwd(),
    parallel: String(request.getParallel()),
  };
  const flags = Object.entries(values).flatMap(([name, value]) => (value === '' ? [] : [`--${name}`, value]));
  return [
    ...flags,
    ...(request.getDryrun() ? ['--dry-run'] : []),
    info?.getEntryPoint() || '.',
    ...request.getArgsList(),
  ];
}

async function passOn(stream: Readable, write: (line: string) => Promise<void>): Promise<void> {
  for await (const line of createInterface({ input: stream })) await write(line);
}

function createEngineLog(engineAddress: string) {
  const client = new engineServices.EngineClient(engineAddress, grpc.credentials.createInsecure());
  return {
    write: (severity: engineMessages.LogSeverity, line: string) =>
      new Promise<void>((resolve) => {
        const entry = new engineMessages.LogRequest().setSeverity(severity).setMessage(`${line}\n`);
        client.log(entry, () => resolve());
      }),
    close: () => client.close(),
  };
}

function unary<Request, Response>(
  handle: (request: Request) => Response | Promise<Response>,
): grpc.handleUnaryCall<Request, Response> {
  const answer = async (request: Request, callback: grpc.sendUnaryData<Response>): Promise<void> => {
    let response: Response;
    try {
      response = await handle(request);
    } catch (error) {
      callback({ code: grpc.status.INTERNAL, details: error instanceof Error ? error.message : String(error) });
      return;
    }
    callback(null, response);
  };
  return (call, callback) => void answer(call.request, callback);
}
