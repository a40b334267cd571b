/**
 * One live run: a control plane of its own rents the cheapest machine below the bound, which is then looked into, given back and
 * proven gone by asking the vendor ourselves. Whatever fails on the way, the end is the same: nothing is left, or it is said loudly.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Instance, ProvisionPlan } from '../../api/contract/instances.ts';
import type { Offer } from '../../api/contract/inventory.ts';
import { probeSsh } from '../../automation/readiness/probe-ssh.ts';
import { formatUsd } from '../../domain/money.ts';
import { canonicalGpuKey } from '../../domain/offer.ts';
import { makeSshKeyPair } from '../../secrets/deployment-secrets.ts';
import { createMusterProcess, findFreePort, type MusterProcess } from '../support/muster-process.ts';
import { LIFETIME_MINUTES, type LiveOrder } from './live-order.ts';
import { findLeft } from './live-proof.ts';

const START_MS = 3 * 60_000;
const LISTING_MS = 3 * 60_000;
/** A machine that is not ready by then is given back. */
const READY_MS = 20 * 60_000;
const GONE_MS = 10 * 60_000;
const PROBE_MS = 30_000;
const LOOK_MS = 250;
const SETTLED = new Set<Instance['status']>(['ready', 'lost', 'destroying', 'destroyed']);

type Say = (line: string) => void;
const usd = (micro: number | bigint): string => `$${formatUsd(BigInt(micro))}`;

/** True when everything held and nothing is left. Never throws for what went wrong at a vendor: it says it. */
export async function runLive(order: LiveOrder, stopped: AbortSignal, say: Say): Promise<boolean> {
  const dir = mkdtempSync(join(tmpdir(), 'muster-live-'));
  const port = await findFreePort();
  const adminKey = `mk_${randomBytes(24).toString('hex')}`;
  const muster = await createMusterProcess({
    dataDir: dir,
    port,
    sandboxPort: port,
    adminKey,
    env: {
      ...order.environment,
      MUSTER_DATA_DIR: dir,
      MUSTER_PORT: String(port),
      MUSTER_ADMIN_API_KEY: adminKey,
      MUSTER_AGENT: 'off',
      MUSTER_MAX_INSTANCES: '1',
      MUSTER_MAX_BURN_USD_PER_HOUR: formatUsd(order.maxPriceMicroUsdPerHour),
      MUSTER_MAX_LIFETIME: `${LIFETIME_MINUTES} minutes`,
      MUSTER_RECONCILE_INTERVAL: '1 minutes',
      MUSTER_ORPHAN_GRACE: '1 minutes',
    },
  });
  const resume = `MUSTER_SANDBOX=off MUSTER_DEPLOYMENT_ID=${order.deploymentId} MUSTER_DATA_DIR=${dir} npm start`;
  const run = { hasOrdered: false, hasHeld: false };
  try {
    await startControlPlane(muster, stopped, say);
    const wanted = await chooseOffer(muster, order, stopped, say);
    say(`Should this program be killed, go on with the same key and: ${resume}`);
    await rentAndLook(muster, order, { wanted, run, stopped }, say);
    run.hasHeld = true;
  } catch (error) {
    say(`FAILED: ${error instanceof Error ? error.message : String(error)}`);
  }
  const isClean =
    !run.hasOrdered ||
    (await giveBack(muster, order, say).catch((error: unknown) => {
      say(`FAILED: ${error instanceof Error ? error.message : String(error)}`);
      return false;
    }));
  await muster.kill('SIGTERM');
  if (isClean) rmSync(dir, { recursive: true, force: true });
  else {
    say('!!! A MACHINE MAY BE LEFT THAT COSTS MONEY !!!');
    say(`!!! Look at the vendor for labels that begin with muster-${order.deploymentId}-, or go on with: ${resume}`);
  }
  return run.hasHeld && isClean;
}

async function startControlPlane(muster: MusterProcess, stopped: AbortSignal, say: Say): Promise<void> {
  say('starting a control plane of our own');
  await muster.start();
  await until(async () => (await muster.request('GET', '/ready')).status === 200, START_MS, 'readiness', stopped);
}

/** The cheapest of one GPU, as the inventory lists it. */
async function chooseOffer(muster: MusterProcess, order: LiveOrder, stopped: AbortSignal, say: Say): Promise<Offer> {
  let page: { items: Offer[]; providers: { name: string; lastGoodAt: string | null; reason: string | null }[] };
  await until(
    async () => {
      page = (await read(muster, '/api/v1/inventory?gpuCount=1&interruptible=false&sort=price&limit=1')) as never;
      const asked = page.providers.filter(({ name }) => [...order.providers.keys()].some((wanted) => wanted === name));
      return asked.length > 0 && asked.every(({ lastGoodAt, reason }) => lastGoodAt !== null || reason !== null);
    },
    LISTING_MS,
    'offers of every provider',
    stopped,
  );
  for (const { name, reason } of page!.providers) if (reason !== null) say(`${name}: ${reason}`);
  const offer = page!.items[0];
  if (!offer) throw new Error('no provider offers a machine with one GPU now');
  say(
    `cheapest: ${offer.gpu} at ${offer.provider}, ${offer.region ?? 'somewhere'}, ${usd(offer.priceMicroUsdPerHour)} an hour`,
  );
  return offer;
}

async function rentAndLook(
  muster: MusterProcess,
  order: LiveOrder,
  { wanted, run, stopped }: { wanted: Offer; run: { hasOrdered: boolean }; stopped: AbortSignal },
  say: Say,
): Promise<void> {
  const key = await makeSshKeyPair('muster live run');
  const request = {
    gpu: wanted.gpu,
    gpuCount: 1,
    maxPriceUsdPerHour: formatUsd(order.maxPriceMicroUsdPerHour),
    providers: [wanted.provider],
    strategy: 'coldstart',
    maxLifetime: `${LIFETIME_MINUTES} minutes`,
    sshPublicKeys: [(key.publicPart ?? '').trim()],
    consumer: 'live-run',
  };
  const plan = await send<ProvisionPlan>(muster, 'POST', '/api/v1/instances', { ...request, dryRun: true });
  const [first] = plan.candidates;
  if (!first) {
    throw new Error(
      `nothing fits: ${plan.shortage ?? 'no candidate'}. With a bound of ${usd(order.maxCostMicroUsd)} an hour may cost ${usd(order.maxPriceMicroUsdPerHour)}`,
    );
  }
  say(
    `PRICE: ${first.gpu} at ${first.provider}: ${usd(first.priceMicroUsdPerHour)} an hour; ended after ${LIFETIME_MINUTES} minutes at the latest, so at most ${usd(order.maxCostMicroUsd)}`,
  );
  stopped.throwIfAborted();
  run.hasOrdered = true; // also when the answer is lost
  const accepted = await send<{ instances: Instance[] }>(muster, 'POST', '/api/v1/instances', {
    ...request,
    planHash: plan.planHash,
  });
  const { id } = accepted.instances[0] as Instance;
  const instance = await followUntilReady(muster, id, stopped, say);
  const probe = await probeSsh(instance.ssh!, key.secret, PROBE_MS);
  // Whoever stops it is told that it was stopped, however far it had come.
  stopped.throwIfAborted();
  if (!probe.authenticated) throw new Error(`SSH: ${probe.detail ?? 'our key was not let in'}`);
  const [gpu] = probe.gpus ?? [];
  if (!gpu) throw new Error(`no GPU seen by nvidia-smi: ${probe.detail ?? 'an empty answer'}`);
  say(`SSH and GPU: ${instance.ssh!.host}:${instance.ssh!.port} let our key in and shows ${gpu.name ?? 'a GPU'}`);
  if (canonicalGpuKey(gpu.name ?? '') !== canonicalGpuKey(instance.gpu)) {
    // Vendors name one model differently; the product has judged it already (domain/readiness.ts).
    say(`note: it was sold as ${instance.gpu}`);
  }
}

async function followUntilReady(muster: MusterProcess, id: string, stopped: AbortSignal, say: Say): Promise<Instance> {
  let instance: Instance | undefined;
  let told = '';
  await until(
    async () => {
      instance = await readInstance(muster, id);
      const line = `${instance.status}, ${instance.phase}`;
      if (line !== told) say(`${id}: ${line}${instance.note ? ` (${instance.note})` : ''}`);
      told = line;
      return SETTLED.has(instance.status);
    },
    READY_MS,
    'ready',
    stopped,
  );
  if (instance?.status !== 'ready' || !instance.ssh) {
    throw new Error(`it did not become ready: ${instance?.failureDetail ?? instance?.status}`);
  }
  return instance;
}

/**
 * Destroys every instance of this control plane, proves that the vendors have none of its machines, and says what it cost. False, or a
 * throw: something may be left. No signal ends it.
 */
async function giveBack(muster: MusterProcess, order: LiveOrder, say: Say): Promise<boolean> {
  if (!muster.isRunning()) await muster.start(); // a Ctrl-C in the terminal reached it too
  const never = new AbortController().signal;
  const instances = ((await read(muster, '/api/v1/instances?limit=500')) as { items: Instance[] }).items;
  for (const { id, status } of instances) {
    if (status !== 'destroyed') {
      await muster.request('DELETE', `/api/v1/instances/${id}`); // one that has failed is given back already
      say(`${id}: giving it back`);
    }
    await until(
      async () => (await readInstance(muster, id)).status === 'destroyed',
      GONE_MS,
      `destruction of ${id}`,
      never,
    );
  }
  const left = await findLeft(order, await Promise.all(instances.map(({ id }) => readInstance(muster, id))));
  for (const line of left) say(`LEFT: ${line}`);
  if (left.length === 0) say('GONE: asked directly, the vendors know of no machine of this run');
  for (const { id } of instances) {
    const cost = (await read(muster, `/api/v1/instances/${id}/cost`)) as { accruedMicroUsd: number };
    say(`COST: ${usd(cost.accruedMicroUsd)} for ${id}, by the price per hour and the time until proven gone`);
  }
  return left.length === 0;
}

async function readInstance(muster: MusterProcess, id: string): Promise<Instance> {
  return (await read(muster, `/api/v1/instances/${id}`)) as Instance;
}

function read(muster: MusterProcess, path: string): Promise<unknown> {
  return send(muster, 'GET', path);
}

async function send<T>(muster: MusterProcess, method: string, path: string, body?: unknown): Promise<T> {
  const reply = await muster.request<T & { detail?: string }>(method, path, body);
  if (reply.status < 300) return reply.body;
  throw new Error(`${method} ${path} was answered with ${reply.status}: ${reply.body.detail ?? 'no reason'}`);
}

async function until(
  check: () => Promise<boolean>,
  boundMs: number,
  what: string,
  stopped: AbortSignal,
): Promise<void> {
  const deadline = performance.now() + boundMs;
  for (;;) {
    stopped.throwIfAborted();
    if (await check()) return;
    if (performance.now() > deadline) throw new Error(`${what}: not within ${boundMs / 60_000} minutes`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
