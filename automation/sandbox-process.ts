/** The sandbox as a child of this process: started, told where to keep its state, and gone with us. */
import { fork, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { PROVIDER_NAMES, type ProviderName } from '../domain/provider.ts';
import type { CloudPorts } from './engine/protocol.ts';

export interface SandboxProcess {
  /** Of the control page and of each simulated vendor. */
  urls: Record<'control' | ProviderName, string>;
  /** Where the engine finds the simulated clouds; empty when this sandbox has none. */
  cloudPorts: CloudPorts;
  stop(): Promise<void>;
}

export interface SandboxProcessOptions {
  projectDir: string;
  port: number;
  dir: string;
  time: string;
  environment: Readonly<Record<string, string>>;
  /** Told when it died and was, or could not be, started again. */
  onTrouble: (message: string) => void;
}

const START_MS = 30_000;
/** A sandbox that dies is started again on its ports; its state is on disk. Slower each time, and given up at the end of the list. */
const RESTART_PAUSES_MS = [0, 500, 2_000, 5_000];

/**
 * Starts the sandbox, or shares the one that another process of ours (or a person) runs on the port. Throws what the sandbox printed
 * when it does not start, such as that its port is taken by something else.
 */
export async function startSandboxProcess(options: SandboxProcessOptions): Promise<SandboxProcess> {
  if (await isSandbox(options.port)) return shareSandbox(options.port);
  let child = forkSandbox(options);
  const { urls, cloudPorts } = await waitUntilReady(child);
  let isStopping = false;
  const watch = (): void => {
    child.once('exit', (code, signal) => {
      if (!isStopping) void restart(`the sandbox ended (${signal ?? code})`);
    });
  };
  async function restart(reason: string): Promise<void> {
    for (const pauseMs of RESTART_PAUSES_MS) {
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
      if (isStopping) return;
      child = forkSandbox(options);
      try {
        await waitUntilReady(child);
        watch();
        return options.onTrouble(`${reason}; started again`);
      } catch (error) {
        options.onTrouble(`${reason}; ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  }
  watch();
  return {
    urls,
    cloudPorts,
    stop() {
      isStopping = true;
      return stop(child);
    },
  };
}

function forkSandbox(options: SandboxProcessOptions): ChildProcess {
  return fork(join(options.projectDir, 'sandbox', 'main.ts'), [], {
    cwd: options.projectDir,
    // Its own process group: a terminal's Ctrl-C must not take the vendors away while we still destroy.
    detached: true,
    env: {
      ...options.environment,
      MUSTER_SANDBOX_PORT: String(options.port),
      MUSTER_SANDBOX_DIR: options.dir,
      MUSTER_SANDBOX_TIME: options.time,
    },
    execArgv: ['--disable-warning=ExperimentalWarning'],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
}

async function isSandbox(port: number): Promise<boolean> {
  if (port === 0) return false;
  try {
    const reply = await fetch(`http://127.0.0.1:${port}/__sandbox/switches`, { signal: AbortSignal.timeout(2_000) });
    return reply.ok;
  } catch {
    return false;
  }
}

/** The simulated vendors are on the ports after the control page's, in the order in which we name them. */
async function shareSandbox(port: number): Promise<SandboxProcess> {
  const at = (offset: number): string => `http://127.0.0.1:${port + offset}`;
  const vendors = Object.fromEntries(PROVIDER_NAMES.map((name, index) => [name, at(index + 1)]));
  return {
    urls: { control: at(0), ...(vendors as Record<ProviderName, string>) },
    cloudPorts: await askCloudPorts(at(0)),
    stop: () => Promise.resolve(),
  };
}

async function askCloudPorts(control: string): Promise<CloudPorts> {
  const reply = await fetch(`${control}/__sandbox/clouds`, { signal: AbortSignal.timeout(2_000) });
  return reply.ok ? ((await reply.json()) as { ports: CloudPorts }).ports : {};
}

type Ready = Pick<SandboxProcess, 'urls' | 'cloudPorts'>;

function waitUntilReady(child: ChildProcess): Promise<Ready> {
  return new Promise((resolve, reject) => {
    let said = '';
    child.stderr?.on('data', (data: Buffer) => (said = (said + data.toString()).slice(-4000)));
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`the sandbox did not start within ${START_MS / 1000} s: ${said}`));
    }, START_MS);
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      reject(new Error(said.trim() || `the sandbox ended (${signal ?? code})`));
    });
    child.on('message', (message: { type: string } & Ready) => {
      if (message.type !== 'ready') return;
      clearTimeout(timer);
      resolve({ urls: message.urls, cloudPorts: message.cloudPorts });
    });
  });
}

function stop(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    const timer = setTimeout(() => child.kill('SIGKILL'), 3_000);
    child.once('exit', () => {
      clearTimeout(timer);
      resolve();
    });
    child.kill('SIGTERM');
  });
}
