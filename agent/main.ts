/** The agent's process: one file on a node, started by the installer's service. Ends with 0 when told to stop, with 1 and a sentence when it cannot work. */
import { readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readActivity } from './activity.ts';
import type { LogBatch } from '../api/contract/pods.ts';
import { createEngine } from './containers/engine.ts';
import { createPodLogOrder } from './containers/pod-logs.ts';
import { createPods } from './containers/pods.ts';
import { createControlPlane, type ControlPlane } from './control-plane.ts';
import { createDeadMan } from './dead-man.ts';
import { createDuties } from './duties.ts';
import { readDevices } from './gpu/devices.ts';
import { createGpuReader } from './gpu/gpu-reader.ts';
import { createSmiRunner } from './gpu/run-smi.ts';
import { createKeyStore, type KeyStore } from './key-store.ts';
import { runAgent, type AgentWork } from './loop.ts';
import { createOrders, type OrderHandler } from './orders.ts';
import { createPowerOff } from './power-off.ts';
import type { Reporter } from './reporter.ts';
import { readSettings, type AgentSettings } from './settings.ts';
import { createSnapshotOrders } from './snapshots/snapshot-orders.ts';
import { createSystemReader, readBootId, readUptime } from './system-facts.ts';
import { runTrial, tryOut } from './trial.ts';
import { createUpdates } from './update.ts';
import { createWorkspaceLock } from './workspace-lock.ts';
import { createWriteAccess } from './write-access.ts';

/** Put in by bundle.ts. */
declare const AGENT_VERSION: string | undefined;

const stopping = new AbortController();
process.on('SIGTERM', () => stopping.abort());
process.on('SIGINT', () => stopping.abort());

try {
  await run(readSettings());
  process.exit(0); // an nvidia-smi that hangs must not keep us
} catch (error) {
  log(error instanceof Error ? error.message : String(error));
  process.exit(1);
}

async function run(settings: AgentSettings): Promise<void> {
  const { procDirectory, directory } = settings;
  const controlPlane = createControlPlane(settings.url);
  const keys = createKeyStore(directory);
  if (settings.isTrial) return runTrial(controlPlane, keys);
  const updates = createUpdates({
    directory,
    program: settings.updates.isOn && typeof AGENT_VERSION === 'string' ? fileURLToPath(import.meta.url) : null,
    download: () => controlPlane.agent(),
    tryOut: (program) => tryOut(program, settings.trialEnvironment),
    monotonicMs: () => performance.now(),
    random: Math.random,
    spreadMs: settings.updates.spreadMs,
    log,
  });
  if (updates === null) return;
  const uptime = readUptime(procDirectory);
  const bootId = readBootId(procDirectory);
  if (bootId === null) log('the kernel does not tell its boot; every start of the agent counts as one');
  const knownBootId = bootId ?? `process-${process.pid}-${Date.now()}`;
  const startedAt = performance.now();
  await runAgent(
    {
      controlPlane,
      keys,
      gpus: createGpuReader(
        createSmiRunner({ env: settings.programEnvironment }),
        () => new Date(),
        () => readDevices(settings.sysDirectory),
      ),
      work: (changed) => createWork(settings, { controlPlane, keys, changed, bootId: knownBootId }),
      deadMan: createDeadMan({
        file: join(directory, 'dead-man.json'),
        bootId: knownBootId,
        uptimeMs: () => (uptime ?? 0) * 1_000 + performance.now() - startedAt,
        own: settings.deadMan,
        log,
      }),
      updates,
      powerOff: createPowerOff(settings.powerOffCommand, settings.programEnvironment),
      token: settings.token,
      readClusterTokens: settings.clusterTokens && clusterTokenReader(settings.clusterTokens),
      version: typeof AGENT_VERSION === 'string' ? AGENT_VERSION : 'unbundled',
      bootId: knownBootId,
      // Hundredths of a second since the boot: heartbeats come far more slowly, so a restarted agent is always ahead of itself.
      firstSequence: Math.floor((uptime ?? 0) * 100),
      readSystem: createSystemReader(procDirectory, { directories: [settings.workspace] }),
      readActivity: () => readActivity(settings.activityFile),
      monotonicMs: () => performance.now(),
      sleep,
      random: Math.random,
      log,
    },
    stopping.signal,
  );
}

/** Each time anew: the kubelet replaces them. */
function clusterTokenReader({ tokenFile, proofFile }: NonNullable<AgentSettings['clusterTokens']>) {
  return () => ({ token: readFileSync(tokenFile, 'utf8').trim(), proof: readFileSync(proofFile, 'utf8').trim() });
}

interface WorkParts {
  controlPlane: ControlPlane;
  keys: KeyStore;
  changed: Reporter['changed'];
  bootId: string;
}

/** What the agent does besides reporting. Each kind of order has its handler here. */
function createWork(settings: AgentSettings, { controlPlane, keys, changed, bootId }: WorkParts): AgentWork {
  const { url, directory, workspace, lockCommand, dockerSocket, programEnvironment } = settings;
  const searchPath = programEnvironment['PATH'] ?? '';
  const handlers: Record<string, OrderHandler> = { ...createSnapshotOrders({ url, directory, workspace, searchPath }) };
  const engine = dockerSocket === null ? null : createEngine(dockerSocket);
  const pods =
    engine && createPods({ engine, directory, workspace, monotonicMs: () => performance.now(), changed, log });
  if (engine && pods) {
    // Read anew each time: keys are replaced.
    const send = (batch: LogBatch) => controlPlane.podLogs(keys.read()?.key ?? '', batch);
    handlers['stream_pod_logs'] = createPodLogOrder({ engine, pods, send, sleep });
  }
  const orders = createOrders({ directory, handlers, changed, log });
  const writes = createWriteAccess({
    file: join(directory, 'write-access.json'),
    lock: createWorkspaceLock(lockCommand, workspace, programEnvironment),
    bootId,
    log,
  });
  const duties = createDuties({ pods, orders, writes, log });
  return { orders, pods, duties };
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(end, ms);
    function end(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    }
    signal.addEventListener('abort', end, { once: true });
  });
}

function log(message: string): void {
  try {
    writeSync(2, `${new Date().toISOString()} muster-agent: ${message}\n`);
  } catch {
    // Nobody listens any more: no reason to stop.
  }
}
