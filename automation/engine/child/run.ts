/** One engine update in this child: one CLI process, its program inline, its purchases by the injected runtime. */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { EngineEvent, Stack } from '@pulumi/pulumi/automation/index.js';
import { ProviderError } from '../../../domain/provider-error.ts';
import { setHostRuntime, setPurchaseRuntime } from '../../../providers-dynamic/entry.ts';
import { loadProgram } from '../../../stacks/catalogue.ts';
import type { ChildSettings, FromChild, RunRequest, RunResult } from '../protocol.ts';
import type { Ask } from './asker.ts';
import { createEventReporter, type EventReporter } from './event-reporter.ts';
import { createChildHostRuntime } from './host-runtime.ts';
import { openStack } from './open-stack.ts';
import { createChildRuntime } from './purchase-runtime.ts';
import { createSecretOutputs, type SecretOutputs } from './secret-outputs.ts';

export interface RunContext {
  request: RunRequest;
  settings: ChildSettings;
  providerPort: number;
  send: (message: FromChild) => void;
  ask: Ask;
}

export interface Run {
  readonly runId: string;
  execute(): Promise<RunResult>;
  cancel(): void;
  extendLease(validForMs: number): void;
  onResourceError(urn: string, error: unknown): void;
}

export function createRun(context: RunContext): Run {
  const { request } = context;
  const abort = new AbortController();
  const runtime = createChildRuntime(context, abort.signal);
  const failures: RunResult['failures'] = {};
  return {
    runId: request.runId,
    cancel: () => abort.abort(),
    extendLease: (validForMs) => runtime.extendLease(validForMs),
    onResourceError(urn, error) {
      const reason = error instanceof Error ? error.message : String(error);
      failures[urn.split('::').at(-1) ?? urn] = {
        errorKind: error instanceof ProviderError ? error.kind : 'internal',
        reason,
      };
    },
    async execute() {
      setPurchaseRuntime(runtime.runtime);
      setHostRuntime(createChildHostRuntime(context, abort.signal));
      const reporter = createEventReporter(request.runId, context.send, {
        steps: request.update === 'preview' || request.update === 'preview_destroy',
        drift: request.update === 'detect_drift' || request.update === 'refresh',
      });
      const workDir = mkdtempSync(join(context.settings.scratchDir, 'run-'));
      const secretOutputs = createSecretOutputs(request.secretOutputs ?? []);
      try {
        runtime.runtime.crashPoint('engine_starting');
        const stack = await openRunStack(context, workDir, secretOutputs);
        await runUpdate(stack, context, abort.signal, reporter);
        return { ...reporter.finish(), isOk: true, errorText: null, failures, secretOutputs: secretOutputs.read() };
      } catch (error) {
        const errorText = error instanceof Error ? error.message : String(error);
        return { ...reporter.finish(), isOk: false, errorText, failures };
      } finally {
        rmSync(workDir, { recursive: true, force: true });
      }
    },
  };
}

async function openRunStack(
  { request, settings, providerPort }: RunContext,
  workDir: string,
  secretOutputs: SecretOutputs,
): Promise<Stack> {
  return openStack({
    settings,
    stackName: request.stackName,
    workDir,
    program: request.program ? await makeProgram(request.program, secretOutputs) : async () => ({}),
    attached: { 'pulumi-nodejs': providerPort, ...settings.cloudPorts },
    environment: {
      ...settings.cloudEnvironment,
      PULUMI_BACKEND_URL: request.state.url,
      PULUMI_ACCESS_TOKEN: request.state.accessToken,
    },
  });
}

async function makeProgram(program: NonNullable<RunRequest['program']>, secretOutputs: SecretOutputs) {
  const run = await loadProgram(program.kind);
  return () => {
    const outputs = run(program.args);
    secretOutputs.take(outputs);
    return Promise.resolve(outputs);
  };
}

async function runUpdate(
  stack: Stack,
  { request, settings }: RunContext,
  signal: AbortSignal,
  reporter: EventReporter,
): Promise<void> {
  const options = {
    parallel: settings.parallel,
    color: 'never' as const,
    signal,
    onEvent: (event: EngineEvent) => reporter.onEvent(event),
  };
  switch (request.update) {
    case 'up':
      await stack.up({ ...options, continueOnError: true });
      return;
    case 'preview':
      await stack.preview(options);
      return;
    case 'destroy':
      await stack.destroy({ ...options, continueOnError: true });
      return;
    case 'refresh':
      await stack.refresh(options);
      return;
    case 'preview_destroy':
      await stack.previewDestroy(options);
      return;
    case 'detect_drift':
      await stack.previewRefresh(options);
  }
}
