/** The agent's process: one file on a node, started by the installer's service. Ends with 0 when told to stop, with 1 and a sentence when it cannot work. */
import { readFileSync, writeSync } from 'node:fs';
import { createControlPlane } from './control-plane.ts';
import { readDevices } from './gpu/devices.ts';
import { createGpuReader } from './gpu/gpu-reader.ts';
import { createSmiRunner } from './gpu/run-smi.ts';
import { createKeyStore } from './key-store.ts';
import { runAgent } from './loop.ts';
import { readSettings, type AgentSettings } from './settings.ts';
import { readBootId, readSystemFacts, readUptime } from './system-facts.ts';

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

function run(settings: AgentSettings): Promise<void> {
  const { procDirectory } = settings;
  const uptime = readUptime(procDirectory);
  const bootId = readBootId(procDirectory);
  if (bootId === null) log('the kernel does not tell its boot; every start of the agent counts as one');
  return runAgent(
    {
      controlPlane: createControlPlane(settings.url),
      keys: createKeyStore(settings.directory),
      gpus: createGpuReader(
        createSmiRunner({ env: settings.programEnvironment }),
        () => new Date(),
        () => readDevices(settings.sysDirectory),
      ),
      token: settings.token,
      readClusterTokens: settings.clusterTokens && clusterTokenReader(settings.clusterTokens),
      version: typeof AGENT_VERSION === 'string' ? AGENT_VERSION : 'unbundled',
      bootId: bootId ?? `process-${process.pid}-${Date.now()}`,
      // Hundredths of a second since the boot: heartbeats come far more slowly, so a restarted agent is always ahead of itself.
      firstSequence: Math.floor((uptime ?? 0) * 100),
      readSystem: () => readSystemFacts(procDirectory),
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
