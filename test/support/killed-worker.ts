/**
 * A stack of ours whose worker is killed in the middle of its creates: what the cloud's own book has is held against the state, then a new
 * worker ends the operation by itself.
 */
import type { VersionedDeployment } from '../../domain/state/deployment.ts';
import type { SimulatedClouds } from '../../sandbox/pulumi/clouds.ts';
import { account, listDoubled, pendingOf, resourcesAt, type KilledCreates } from './killed-creates.ts';
import { waitFor, type MusterProcess } from './muster-process.ts';
import { readStateText } from './state-client.ts';

export interface KilledWorkerOptions {
  api: MusterProcess;
  worker: MusterProcess;
  clouds: SimulatedClouds;
  name: string;
  /** Each makes about ten resources. */
  buckets: number;
  killAt: number;
}

const BOUND_MS = 180_000;
const CREATE_MS = 40;
/** An engine without its worker ends within two seconds. */
const ENDED_MS = 3_000;

export async function runKilledWorker(options: KilledWorkerOptions): Promise<KilledCreates> {
  const { api, worker, clouds, name } = options;
  const buckets = Array.from({ length: options.buckets }, (_, index) => ({
    name: `b${index}`,
    region: 'eu-west-1',
    user: true,
  }));
  const made = await ask(api, 'POST', '/stacks', { name, kind: 'snapshots', config: { buckets }, costCentre: 'x' });
  const id = made['id'] as string;
  const { id: fault } = clouds.fault({ kind: 'slow', operation: 'create', delayMs: CREATE_MS });
  const operation = (await ask(api, 'POST', `/stacks/${id}/up`, {}))['operation'] as { id: string };
  await waitFor(() => resourcesAt(clouds, name).length >= options.killAt, BOUND_MS, 'the creates', 3);
  await worker.kill('SIGKILL');
  clouds.removeFault(fault);
  await untilQuiet(clouds);
  const read = async () =>
    (JSON.parse(await readStateText(api.url, `snapshots-${id.slice('stk_'.length)}`)) as VersionedDeployment)
      .deployment;
  const left = await read();
  const atCloud = resourcesAt(clouds, name);
  const problems = account(atCloud, left);
  const report = {
    isDone: false,
    made: atCloud.length,
    known: atCloud.length - pendingOf(left).length,
    pending: pendingOf(left).length,
  };
  await worker.start();
  await waitFor(
    async () => {
      const { finishedAt, error } = await ask(api, 'GET', `/operations/${operation.id}`);
      if (error) problems.push(`the operation failed: ${JSON.stringify(error)}`);
      return finishedAt !== null;
    },
    BOUND_MS,
    'the end of the operation',
    100,
  );
  const after = await read();
  const there = resourcesAt(clouds, name);
  problems.push(...account(there, after).map((problem) => `after the next update: ${problem}`), ...listDoubled(there));
  if (pendingOf(after).length > 0) problems.push('after the next update creates are pending');
  return { problems, ...report };
}

async function untilQuiet(clouds: SimulatedClouds): Promise<void> {
  let count = -1;
  let since = performance.now();
  await waitFor(
    () => {
      clouds.finish();
      if (clouds.resources().length !== count) since = performance.now();
      count = clouds.resources().length;
      return performance.now() - since > ENDED_MS;
    },
    BOUND_MS,
    'the end of the engine',
  );
}

async function ask(
  muster: MusterProcess,
  method: string,
  path: string,
  body?: unknown,
): Promise<Record<string, unknown>> {
  const reply = await muster.request(method, `/api/v1${path}`, body);
  if (reply.status >= 300) throw new Error(`${method} ${path}: ${reply.status} ${JSON.stringify(reply.body)}`);
  return reply.body;
}
