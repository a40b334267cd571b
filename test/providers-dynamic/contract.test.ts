/**
 * The contract of provider-client.ts, the same cases for every provider against its simulated vendor at the real wire. What is
 * particular to one vendor is in its own folder's tests.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { probeSsh } from '../../automation/readiness/probe-ssh.ts';
import type { Offer } from '../../domain/offer.ts';
import { ProviderError, type ProviderErrorKind } from '../../domain/provider-error.ts';
import { PROVIDER_NAMES, type ProviderName } from '../../domain/provider.ts';
import { DEFAULT_IMAGE } from '../../domain/provision-request.ts';
import type { ProviderClient, PurchaseOrder } from '../../providers-dynamic/provider-client.ts';
import { createProviderClient } from '../../providers-dynamic/provider-clients.ts';
import { createRateLimiter } from '../../providers-dynamic/rate-limiter.ts';
import type { FaultInput } from '../../sandbox/faults.ts';
import { startSandbox, type Sandbox } from '../../sandbox/server.ts';
import { SSH_KEY } from '../support/ssh-machine.ts';

/** Our names of the simulated vendor's calls. */
interface Endpoints {
  search: string;
  create: string;
  list: string;
  show: string;
  destroy: string;
}

const ENDPOINTS: Record<ProviderName, Endpoints> = {
  vastai: { search: 'search', create: 'create', list: 'list', show: 'read', destroy: 'destroy' },
  tensordock: { search: 'hostnodes', create: 'create', list: 'list', show: 'show', destroy: 'destroy' },
  runpod: { search: 'catalog', create: 'create', list: 'list', show: 'read', destroy: 'destroy' },
  lambda: { search: 'search', create: 'create', list: 'list', show: 'read', destroy: 'destroy' },
};

const LABEL = 'muster-test-att0000000000000000-sig';
const SECRET = 'env-value-that-stays-secret';

let sandbox: Sandbox;

beforeAll(async () => {
  sandbox = await startSandbox({ port: 0, dir: null, time: 'explicit' });
});

afterAll(() => sandbox.close());

describe.each(PROVIDER_NAMES)('the client of %s', (provider) => {
  const endpoints = ENDPOINTS[provider];
  let client: ProviderClient;

  beforeEach(async () => {
    await sandbox.reset();
    client = connect(sandbox.apiKey);
  });

  function connect(apiKey: string, requestTimeoutMs = 2_000): ProviderClient {
    const settings = { apiKey, baseUrl: sandbox.urls[provider], requestTimeoutMs };
    return createProviderClient(provider, settings, createRateLimiter({}));
  }

  function orderFor(offer: Offer, label = LABEL): PurchaseOrder {
    return {
      providerOfferId: offer.providerOfferId,
      label,
      image: DEFAULT_IMAGE,
      diskGib: 100,
      env: { TOKEN: SECRET },
      onStart: 'echo started',
      interruptible: false,
      bidMicroUsdPerHour: null,
      sshPublicKeys: [SSH_KEY.public],
    };
  }

  async function cheapest(): Promise<Offer> {
    const offers = await client.searchOffers({ diskGib: 100 });
    const [first] = offers
      .filter((offer) => offer.gpuCount === 1)
      .sort((a, b) => Number(a.priceMicroUsdPerHour - b.priceMicroUsdPerHour));
    if (!first) throw new Error('nothing is offered');
    return first;
  }

  const fault = (endpoint: keyof Endpoints, input: Omit<FaultInput, 'provider' | 'endpoint'>) =>
    sandbox.addFault({ provider, endpoint: endpoints[endpoint], ...input });
  const report = () => {
    const state = sandbox.state()[provider];
    if (!state) throw new Error(`the sandbox has no ${provider}`);
    return state;
  };
  const purchases = () => report().purchases[LABEL] ?? { calls: 0, accepted: 0, refused: 0, machineIds: [] };
  const alive = () =>
    report().machines.filter((machine) => machine.origin === 'bought' && machine.destroyedAtMs === null);

  it('lists at least 200 offers, normalised', async () => {
    const offers = await client.searchOffers({});
    expect(offers.length).toBeGreaterThanOrEqual(200);
    expect(new Set(offers.map((offer) => offer.providerOfferId)).size).toBe(offers.length);
    for (const offer of offers) {
      expect(offer).toMatchObject({ provider, gpu: expect.stringMatching(/^\S.*\S$/) });
      expect(offer.gpu).not.toMatch(/nvidia|geforce/i);
      expect(offer.gpuCount).toBeGreaterThanOrEqual(1);
      expect(offer.priceMicroUsdPerHour > 0n, `price of ${offer.providerOfferId}`).toBe(true);
      expect(offer.confidence > 0 && offer.confidence <= 1).toBe(true);
      expect(offer.stock === null || offer.stock >= 1).toBe(true);
      expect(offer.region === null || /^[A-Z]{2}$/.test(offer.region), `region ${offer.region}`).toBe(true);
      expect(offer.interruptible).toBe(false);
    }
    expect(offers.some((offer) => offer.gpuMemoryGib !== null)).toBe(true);
  });

  it(
    'buys one machine, reads it back under its label, lets our key in, and destroys it',
    { timeout: 20_000 },
    async () => {
      const offer = await cheapest();
      const { providerInstanceId: id } = await client.buy(orderFor(offer));
      expect(purchases()).toMatchObject({ calls: 1, accepted: 1, machineIds: [expect.anything()] });
      expect(await client.readInstance(id)).toMatchObject({ providerInstanceId: id, label: LABEL });
      if (client.capabilities.attachKeys) await client.attachSshKey(id, SSH_KEY.public);
      await sandbox.advance(600_000);
      const running = await client.readInstance(id);
      expect(running).toMatchObject({
        status: 'running',
        label: LABEL,
        gpuCount: 1,
        ssh: { port: expect.any(Number) },
      });
      const price = running?.priceMicroUsdPerHour ?? offer.priceMicroUsdPerHour;
      const difference =
        price > offer.priceMicroUsdPerHour ? price - offer.priceMicroUsdPerHour : offer.priceMicroUsdPerHour - price;
      expect(
        difference * 100n <= offer.priceMicroUsdPerHour,
        `listed ${offer.priceMicroUsdPerHour}, bills ${price}`,
      ).toBe(true);
      const probe = await probeSsh(running?.ssh as never, SSH_KEY.private, 5_000);
      expect(probe).toMatchObject({ authenticated: true, gpus: [expect.anything()] });
      expect(await client.findByLabel(LABEL)).toMatchObject([{ providerInstanceId: id }]);
      expect(await client.findByLabel(LABEL.slice(0, -1))).toEqual([]);
      await client.destroy(id);
      await sandbox.advance(60_000);
      expect(await client.readInstance(id)).toBeNull();
      await client.destroy(id);
      expect(alive()).toEqual([]);
    },
  );

  it('never touches a foreign machine and lists it all the same', async () => {
    const listed = await client.listInstances();
    const foreign = report().machines.filter((machine) => machine.origin === 'foreign');
    expect(foreign).toHaveLength(3);
    expect(listed.map((instance) => instance.providerInstanceId).sort()).toEqual(
      foreign.map((machine) => String(machine.id)).sort(),
    );
    expect(foreign.every((machine) => machine.changeCalls === 0)).toBe(true);
  });

  it('says that there is no such instance, and that destroying it is done', async () => {
    const offer = await cheapest();
    const { providerInstanceId: id } = await client.buy(orderFor(offer));
    await client.destroy(id);
    await sandbox.advance(60_000);
    expect(await client.readInstance(id)).toBeNull();
    await client.destroy(id);
  });

  it('tells a definite refusal: nothing was bought, take another offer', async () => {
    const offer = await cheapest();
    await fault('create', { kind: 'stale_offer', times: 1 });
    expect(await kindOf(client.buy(orderFor(offer)))).toBe('no_capacity');
    expect(purchases()).toMatchObject({ calls: 1, accepted: 0 });
    expect(await client.findByLabel(LABEL)).toEqual([]);
  });

  it.each(['lose_response', 'execute_then_status'] as const)(
    'calls a purchase unknown after %s, sends it once, and finds it by its label',
    async (kind) => {
      const offer = await cheapest();
      await fault('create', { kind, times: 1 });
      expect(await kindOf(client.buy(orderFor(offer)))).toBe('unknown');
      expect(purchases()).toMatchObject({ calls: 1, accepted: 1 });
      expect(await client.findByLabel(LABEL)).toHaveLength(1);
    },
  );

  it.each(['rate_limit', 'status', 'html', 'drop'] as const)(
    'calls a purchase unknown after %s, although nothing was bought',
    async (kind) => {
      const offer = await cheapest();
      await fault('create', { kind, times: 1 });
      expect(await kindOf(client.buy(orderFor(offer)))).toBe('unknown');
      expect(alive()).toEqual([]);
    },
  );

  it.each(['status', 'html', 'malformed', 'drop'] as const)('never reads a list with %s as empty', async (kind) => {
    await fault('list', { kind });
    expect(await kindOf(client.listInstances())).toMatch(/retryable|unbelievable|unknown|unavailable/);
    expect(await kindOf(client.findByLabel(LABEL))).toMatch(/retryable|unbelievable|unknown|unavailable/);
    sandbox.clearFaults();
    await fault('search', { kind });
    expect(await kindOf(client.searchOffers({}))).toMatch(/retryable|unbelievable|unknown|unavailable/);
  });

  it('never reads trouble with one instance as its absence', async () => {
    const { providerInstanceId: id } = await client.buy(orderFor(await cheapest()));
    for (const kind of ['status', 'html', 'drop'] as const) {
      const { id: faultId } = await fault('show', { kind });
      expect(await kindOf(client.readInstance(id)), kind).not.toBeNull();
      sandbox.removeFault(faultId);
    }
    for (const kind of ['status', 'drop'] as const) {
      const { id: faultId } = await fault('destroy', { kind });
      expect(await kindOf(client.destroy(id)), kind).not.toBeNull();
      sandbox.removeFault(faultId);
    }
    expect(alive()).toHaveLength(1);
  });

  it('says that a key is refused, without the key', async () => {
    const stranger = connect('another-key-that-is-wrong');
    for (const call of [() => stranger.listInstances(), () => stranger.readAccount()]) {
      const error = await errorOf(call());
      expect(error.kind).toBe('auth');
      expect(error.message).not.toContain('another-key-that-is-wrong');
    }
    const offer = await cheapest();
    const refused = await errorOf(stranger.buy(orderFor(offer)));
    expect(refused.kind).toBe('auth');
    expect(refused.message).not.toContain(SECRET);
    expect(purchases().accepted).toBe(0);
    expect(await client.readAccount()).toMatchObject({ accountId: expect.any(String) });
  });

  it('buys nothing once canceled, nor when the last look before sending says no', async () => {
    const offer = await cheapest();
    expect(await kindOf(client.buy(orderFor(offer), AbortSignal.abort()))).toBe('canceled');
    const stop = () => {
      throw new ProviderError('canceled', 'the lease is over');
    };
    expect(await kindOf(client.buy(orderFor(offer), undefined, stop))).toBe('canceled');
    expect(purchases()).toMatchObject({ calls: 0 });
  });

  it('refuses as invalid what the vendor cannot do', async () => {
    const offer = await cheapest();
    const { providerInstanceId: id } = await client.buy(orderFor(offer));
    await sandbox.advance(600_000);
    const { capabilities } = client;
    if (!capabilities.stop) expect(await kindOf(client.stop(id))).toBe('invalid');
    if (!capabilities.relabel) expect(await kindOf(client.setLabel(id, `${LABEL}-b`))).toBe('invalid');
    if (!capabilities.attachKeys) expect(await kindOf(client.attachSshKey(id, SSH_KEY.public))).toBe('invalid');
    if (!capabilities.interruptible) {
      expect(await kindOf(client.changeBid(id, 1_000n))).toBe('invalid');
      const order = { ...orderFor(offer, `${LABEL}-i`), interruptible: true, bidMicroUsdPerHour: 100_000n };
      expect(await kindOf(client.buy(order))).toBe('invalid');
    }
    if (capabilities.stop) {
      await client.stop(id);
      await sandbox.advance(60_000);
      expect(await client.readInstance(id)).toMatchObject({ status: 'stopped' });
      await client.start(id);
      await sandbox.advance(600_000);
      expect(await client.readInstance(id)).toMatchObject({ status: 'running' });
    }
    if (capabilities.relabel) {
      await client.setLabel(id, `${LABEL}-b`);
      expect(await client.findByLabel(`${LABEL}-b`)).toHaveLength(1);
    }
  });

  it('slows everybody down when the vendor says so', async () => {
    const waits: number[] = [];
    const limiter = createRateLimiter({});
    const slow = createProviderClient(
      provider,
      { apiKey: sandbox.apiKey, baseUrl: sandbox.urls[provider] },
      {
        acquire: limiter.acquire,
        slowDown: (_provider, _endpoint, forMs) => {
          waits.push(forMs);
          return Promise.resolve();
        },
      },
    );
    await fault('list', { kind: 'rate_limit', times: 1 });
    await slow.listInstances().catch(() => {});
    expect(waits).toHaveLength(1);
    expect(waits[0]).toBeGreaterThan(0);
  });
});

async function errorOf(work: Promise<unknown>): Promise<ProviderError> {
  const error: unknown = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ProviderError)) throw new Error('it did not fail as a provider does', { cause: error });
  return error;
}

async function kindOf(work: Promise<unknown>): Promise<ProviderErrorKind> {
  return (await errorOf(work)).kind;
}
