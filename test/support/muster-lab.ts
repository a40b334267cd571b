/**
 * A whole Muster for one test file: a process of its own that works on a copy of the migrated database, and simulated vendors whose machines
 * boot at once, with real agents where they are on. For tests of what Muster does; how it brings up a Postgres itself is main.test.ts's.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PROVIDER_NAMES } from '../../domain/provider.ts';
import { createAgentRunner, type AgentRunner } from '../../sandbox/agent/agent-runner.ts';
import { startSandbox, type Sandbox, type SandboxOptions } from '../../sandbox/server.ts';
import { createTestDatabase } from './database.ts';
import { createMusterProcess, findFreePort, waitFor, type MusterProcess } from './muster-process.ts';

export interface MusterLab {
  dir: string;
  sandbox: Sandbox;
  agents: AgentRunner;
  muster: MusterProcess;
  close(): Promise<void>;
}

export interface MusterLabOptions {
  env?: Record<string, string>;
  clouds?: SandboxOptions['clouds'];
  /** @default false */
  hasNodeAgents?: boolean;
  /** An embedded one in its data directory. @default a database of the server that all tests share */
  hasOwnPostgres?: boolean;
}

const READY_MS = 180_000;
const BOOT_MS = [100, 300] as const;
const PORTS = 12;

export async function openMusterLab(options: MusterLabOptions = {}): Promise<MusterLab> {
  const { clouds, hasNodeAgents = false, hasOwnPostgres = false } = options;
  const dir = mkdtempSync(join(tmpdir(), 'muster-lab-'));
  const database = hasOwnPostgres ? null : await createTestDatabase();
  const sandboxPort = await findFreePort(PORTS);
  const agents = createAgentRunner(join(dir, 'agents'));
  const sandbox = await startSandbox({
    port: sandboxPort,
    dir: join(dir, 'sandbox'),
    machineWatch: agents,
    switches: Object.fromEntries(PROVIDER_NAMES.map((name) => [name, { bootMs: BOOT_MS }])),
    ...(hasNodeAgents ? { nodeAgents: agents } : {}),
    ...(clouds === undefined ? {} : { clouds }),
  });
  const muster = await createMusterProcess({
    dataDir: join(dir, 'data'),
    sandboxPort,
    env: {
      ...(database === null ? {} : { DATABASE_URL: database.url }),
      MUSTER_READINESS_INTERVAL: '500 ms',
      ...options.env,
    },
  });
  const lab: MusterLab = {
    dir,
    sandbox,
    agents,
    muster,
    async close() {
      await muster.kill('SIGTERM');
      agents.close();
      await sandbox.close();
      await database?.drop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
  try {
    await muster.start();
    await waitFor(async () => (await muster.request('GET', '/ready')).status === 200, READY_MS, '/ready');
  } catch (error) {
    await lab.close();
    throw error;
  }
  return lab;
}
