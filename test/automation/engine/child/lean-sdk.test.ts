/** What nobody reads is taken out of the SDK, and the rest works as before. */
import { createRequire } from 'node:module';
import grpc from '@grpc/grpc-js';
import services from '@pulumi/pulumi/proto/engine_grpc_pb.js';
import type { LogRequest } from '@pulumi/pulumi/proto/engine_pb.js';
import type { RegisterResourceRequest } from '@pulumi/pulumi/proto/resource_pb.js';
import { CustomResource } from '@pulumi/pulumi/resource.js';
import { setMocks } from '@pulumi/pulumi/runtime/mocks.js';
import { getMonitor, resetOptions } from '@pulumi/pulumi/runtime/settings.js';
import empty from 'google-protobuf/google/protobuf/empty_pb.js';
import { describe, expect, it, vi } from 'vitest';
import { makeSdkLean } from '../../../../automation/engine/child/lean-sdk.ts';

/** As the SDK's own modules call it. */
const log = createRequire(import.meta.url)('@pulumi/pulumi/log/index.js') as Record<
  'debug' | 'info' | 'warn',
  (message: string) => Promise<void>
>;

class Thing extends CustomResource {}

async function register(name: string): Promise<{ request: RegisterResourceRequest; id: string | undefined }> {
  await setMocks({ newResource: ({ inputs }) => ({ id: `id-of-${name}`, state: inputs }), call: () => ({}) });
  const monitor = getMonitor();
  if (!monitor) throw new Error('no monitor');
  const asked = vi.spyOn(monitor, 'registerResource');
  const { id } = new Thing('test:index:Thing', name, {});
  const made = await new Promise<string | undefined>((resolve) => id.apply(resolve));
  const request = asked.mock.calls[0]?.[0];
  if (!request) throw new Error('nothing was registered');
  return { request, id: made };
}

async function openEngine(): Promise<{ said: string[]; address: string; close(): void }> {
  const said: string[] = [];
  const server = new grpc.Server();
  const service = services as unknown as { EngineService: grpc.ServiceDefinition };
  server.addService(service.EngineService, {
    log: (call: { request: LogRequest }, callback: (error: null, answer: empty.Empty) => void) => {
      said.push(call.request.getMessage());
      callback(null, new empty.Empty());
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { said, address: `127.0.0.1:${port}`, close: () => server.forceShutdown() };
}

describe('the lean SDK', () => {
  it('registers resources as before, without the lines of the program behind them', async () => {
    const before = await register('before');
    expect(before.request.getStacktrace()?.getFramesList()).not.toEqual([]);
    makeSdkLean();
    const after = await register('after');
    expect(after.id).toBe('id-of-after');
    expect(after.request.getSourceposition()).toBeUndefined();
    expect(after.request.getStacktrace()?.getFramesList()).toEqual([]);
  });

  it('tells the engine what is for people, and nothing of what only --debug shows', async () => {
    const engine = await openEngine();
    resetOptions('muster', 'dev', 1, engine.address, '', false, 'organization');
    makeSdkLean();
    await log.debug('how it is done');
    await log.warn('a key is old');
    await log.info('it is done');
    expect(engine.said).toEqual(['a key is old', 'it is done']);
    engine.close();
  });

  it('is as lean when it is made so again', async () => {
    makeSdkLean();
    makeSdkLean();
    expect(Error.stackTraceLimit).toBe(2);
    expect((await register('again')).id).toBe('id-of-again');
  });
});
