/**
 * The sandbox's process: started by Muster with an IPC channel, or by hand. Reads its own small environment, which is
 * documented in sandbox/README.md, and leaves with its parent.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { createAgentRunner } from './agent/agent-runner.ts';
import { TIME_MODES } from './clock.ts';
import { PortInUseError } from './http-listener.ts';
import { CLOUD_TIMINGS } from './pulumi/cloud-time.ts';
import { DEFAULT_OFFER_COUNT, DEFAULT_SEED, type Sandbox, startSandbox } from './server.ts';

const EXIT_CONFIGURATION = 2;

const environmentSchema = z.object({
  MUSTER_SANDBOX_PORT: wholeNumber(0, 65_526).default(8090),
  MUSTER_SANDBOX_DIR: z.string().min(1).default(join('.muster', 'sandbox')),
  MUSTER_SANDBOX_TIME: z.enum(TIME_MODES).default('auto'),
  MUSTER_SANDBOX_CLOUD_TIME: z.enum(CLOUD_TIMINGS).optional(),
  MUSTER_SANDBOX_SEED: wholeNumber(0, 4_294_967_295).default(DEFAULT_SEED),
  MUSTER_SANDBOX_OFFERS: wholeNumber(0, 50_000).default(DEFAULT_OFFER_COUNT),
  MUSTER_SANDBOX_LATENCY_MS: wholeNumber(0, 60_000).default(0),
});

/** What the parent is told over IPC. */
export interface SandboxReady {
  type: 'ready';
  urls: Sandbox['urls'];
  /** Of the simulated clouds, by Pulumi's name of the package. */
  cloudPorts: Record<string, number>;
}

const environment = readEnvironment();
process.on('SIGTERM', () => void leave(0));
process.on('SIGINT', () => void leave(0));
// The parent is gone: nobody would ever stop us.
process.on('disconnect', () => void leave(0));

const agents = createAgentRunner(join(environment.MUSTER_SANDBOX_DIR, 'agents'));
let running: Sandbox | null = null;
try {
  running = await startSandbox({
    port: environment.MUSTER_SANDBOX_PORT,
    dir: environment.MUSTER_SANDBOX_DIR,
    time: environment.MUSTER_SANDBOX_TIME,
    seed: environment.MUSTER_SANDBOX_SEED,
    offers: environment.MUSTER_SANDBOX_OFFERS,
    latencyMs: environment.MUSTER_SANDBOX_LATENCY_MS,
    machineWatch: agents,
    nodeAgents: agents,
    clouds: environment.MUSTER_SANDBOX_CLOUD_TIME ?? (environment.MUSTER_SANDBOX_TIME === 'real' ? 'real' : 'short'),
  });
} catch (error) {
  if (!(error instanceof PortInUseError)) throw error;
  console.error(`sandbox: ${error.message}; set MUSTER_SANDBOX_PORT to another (it takes that one and those after it)`);
  process.exit(EXIT_CONFIGURATION);
}

const cloudPorts = running.clouds?.ports ?? {};
const ready: SandboxReady = { type: 'ready', urls: running.urls, cloudPorts };
if (process.send !== undefined) process.send(ready);
else {
  const { urls, vendors } = running;
  const places = vendors.map(({ name, title }) => `${title} ${urls[name]}`);
  console.log(`sandbox: control page ${urls.control}, ${places.join(', ')}`);
  const providers = Object.entries(cloudPorts).map(([name, port]) => `${name}:${String(port)}`);
  console.log(`sandbox: for plain pulumi up, PULUMI_DEBUG_PROVIDERS=${providers.join(',')}`);
}

/** The journal is always written through, so leaving in the middle of anything loses nothing. */
async function leave(code: number): Promise<never> {
  agents.close();
  await running?.close();
  process.exit(code);
}

function readEnvironment(): z.infer<typeof environmentSchema> {
  const parsed = environmentSchema.safeParse(process.env);
  if (parsed.success) return parsed.data;
  for (const { path, message } of parsed.error.issues) {
    const name = String(path[0]);
    console.error(`sandbox: ${name}=${JSON.stringify(process.env[name])}: ${message}`);
  }
  process.exit(EXIT_CONFIGURATION);
}

function wholeNumber(min: number, max: number): z.ZodType<number, string> {
  return z
    .string()
    .regex(/^\d+$/, 'must be a whole number')
    .transform(Number)
    .refine((value) => value >= min && value <= max, `must be from ${min} to ${max}`);
}
