/**
 * An operation child: a warm process that runs one engine update at a time for the worker that forked it. The program, the
 * dynamic providers and the Automation API live here, so that a crash or a leak takes one operation and not the control plane.
 *
 * It ends itself, with the engine it started, the moment its parent is gone: an update without a lease must not go on buying.
 */
import { mkdirSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import type { ChildSettings, FromChild, RunRequest, ToChild } from '../protocol.ts';
import { createAsker } from './asker.ts';
import { createRun, type Run } from './run.ts';
import { startProviderServer } from './provider-server.ts';
import { primeSdk } from './prime.ts';

/** A first operation that waited for the child goes before the writing of what is compiled. */
const IDLE_MS = 1_000;

let settings: ChildSettings | undefined;
let current: Run | undefined;
const asker = createAsker(send);

process.on('message', (message: ToChild) => void receive(message));
process.on('disconnect', () => endGroup());
// The worker decides when work stops; a terminal's signals reach it, not us.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => {});
// While an update runs the SDK itself listens for these: a resource that failed rejects promises of the program that nobody awaits.
process.on('unhandledRejection', (reason) => {
  if (current) return;
  process.stderr.write(`operation child: ${reason instanceof Error ? reason.stack : String(reason)}\n`);
  endGroup();
});

const server = await startProviderServer({ onError: (urn, error) => current?.onResourceError(urn, error) });
await primeSdk();
send({ type: 'ready', rssBytes: process.memoryUsage.rss() });
setTimeout(keepCompiled, IDLE_MS).unref();

async function receive(message: ToChild): Promise<void> {
  switch (message.type) {
    case 'settings':
      settings = message.settings;
      mkdirSync(settings.scratchDir, { recursive: true, mode: 0o700 });
      return;
    case 'run':
      return execute(message.request);
    case 'cancel':
      if (current?.runId === message.runId) current.cancel();
      return;
    case 'lease':
      if (current?.runId === message.runId) current.extendLease(message.validForMs);
      return;
    case 'answer':
      asker.settle(message);
  }
}

async function execute(request: RunRequest): Promise<void> {
  if (!settings) throw new Error('a run before the settings');
  current = createRun({ request, settings, providerPort: server.port, send, ask: asker.forRun(request.runId) });
  const result = await current.execute();
  current = undefined;
  send({ type: 'result', runId: request.runId, result, rssBytes: process.memoryUsage.rss() });
  keepCompiled();
}

/** Node does it at a process's own end only, and this one is always killed: 0.2 s once, 1–2 ms when there is nothing new. */
function keepCompiled(): void {
  if (!current) flushCompileCache();
}

function send(message: FromChild): void {
  if (process.connected) process.send?.(message);
}

function endGroup(): void {
  try {
    process.kill(-process.pid, 'SIGKILL');
  } catch {
    process.kill(process.pid, 'SIGKILL');
  }
}
