/** One machine of each marketplace, through the whole program: real processes, real engine, real Postgres, each vendor at its own wire. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { PROVIDER_NAMES, type ProviderName } from '../../domain/provider.ts';
import type { Sandbox } from '../../sandbox/server.ts';
import type { VendorMachineReport } from '../../sandbox/vendor.ts';
import { openMusterLab, type MusterLab } from '../support/muster-lab.ts';
import { waitFor, type MusterProcess } from '../support/muster-process.ts';

const BOUND_MS = 120_000;

interface Instance {
  id: string;
  status: string;
  provider: string | null;
  note: string | null;
  failureDetail: string | null;
  ssh: { host: string; port: number; user: string } | null;
}

let lab: MusterLab;
let sandbox: Sandbox;
let muster: MusterProcess;

beforeAll(async () => {
  lab = await openMusterLab();
  ({ sandbox, muster } = lab);
}, BOUND_MS);

afterAll(() => lab?.close());

it(
  'rents one machine from each marketplace, hands it over and proves it gone',
  async () => {
    const ids = new Map<ProviderName, string>();
    for (const provider of PROVIDER_NAMES) ids.set(provider, await rentCheapest(provider));
    const instances = new Map<ProviderName, Instance>();
    await advanceUntil(async () => {
      for (const [provider, id] of ids) instances.set(provider, await read(id));
      const failed = [...instances].find(([, { failureDetail }]) => failureDetail !== null);
      if (failed) throw new Error(`${failed[0]}: ${failed[1].failureDetail}`);
      return [...instances.values()].every(({ status }) => status === 'ready');
    }, 'one instance of each provider is ready');
    for (const [provider, instance] of instances) {
      expect(instance).toMatchObject({ provider, ssh: { host: expect.any(String), port: expect.any(Number) } });
      expect(alive(provider)).toHaveLength(1);
      expect(Object.values(sandbox.state()[provider].purchases)).toMatchObject([{ calls: 1, accepted: 1 }]);
      await muster.request('DELETE', `/api/v1/instances/${instance.id}`);
    }
    await advanceUntil(async () => {
      const all = await Promise.all([...ids.values()].map(read));
      return all.every(({ status }) => status === 'destroyed');
    }, 'all are destroyed');
    for (const provider of PROVIDER_NAMES) {
      expect(alive(provider), provider).toEqual([]);
      const foreign = machinesOf(provider).filter(({ origin }) => origin === 'foreign');
      expect(foreign.map(({ changeCalls }) => changeCalls)).toEqual([0, 0, 0]);
    }
  },
  BOUND_MS,
);

async function rentCheapest(provider: ProviderName): Promise<string> {
  const path = `/api/v1/inventory?provider=${provider}&gpuCount=1&sort=price&limit=1`;
  let offer: { gpu: string; priceMicroUsdPerHour: number } | undefined;
  await advanceUntil(async () => {
    const page = await muster.request<{ items: { gpu: string; priceMicroUsdPerHour: number }[] }>('GET', path);
    offer = page.body.items[0];
    return offer !== undefined;
  }, `offers of ${provider}`);
  const price = Math.ceil((offer?.priceMicroUsdPerHour ?? 0) * 1.5) / 1_000_000;
  const body = { gpu: offer?.gpu, maxPriceUsdPerHour: price.toFixed(6), strategy: 'coldstart', providers: [provider] };
  const reply = await muster.request<{ instances: { id: string }[] }>('POST', '/api/v1/instances', body);
  expect(reply, JSON.stringify(reply.body)).toMatchObject({ status: 202 });
  return reply.body.instances[0]?.id ?? '';
}

async function read(id: string): Promise<Instance> {
  return (await muster.request<Instance>('GET', `/api/v1/instances/${id}`)).body;
}

function machinesOf(provider: ProviderName): VendorMachineReport[] {
  return sandbox.state()[provider].machines;
}

function alive(provider: ProviderName): VendorMachineReport[] {
  return machinesOf(provider).filter(({ origin, destroyedAtMs }) => origin === 'bought' && destroyedAtMs === null);
}

/** Lets the vendors' time pass while it asks. */
async function advanceUntil(check: () => Promise<boolean>, what: string): Promise<void> {
  await waitFor(
    async () => {
      await sandbox.advance(1_000);
      return check();
    },
    BOUND_MS,
    what,
  );
}
