/** Plan before spend: what a dry run quotes, and what becomes of a request that presents its planHash. */
import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ProvisionPlan } from '../../api/contract/instances.ts';
import { recordQuarantine } from '../../db/providers.ts';
import type { Offer } from '../../domain/offer.ts';
import type { ProvisionRequest } from '../../domain/provision-request.ts';
import { listOffers, ORDER, startApiServer, type ApiServer } from '../support/api-server.ts';

let server: ApiServer;
let key: string;
let orgId: string;
beforeAll(async () => {
  server = await startApiServer();
});
afterAll(() => server?.stop());
beforeEach(async () => {
  ({ key, orgId } = await server.makeKey('operator'));
  await market([400_000n, 300_000n, 310_000n, 305_000n]);
});

const market = (prices: bigint[], change: Partial<Offer>[] = []) =>
  listOffers(
    server,
    prices.map((priceMicroUsdPerHour, index) => ({ priceMicroUsdPerHour, ...change[index] })),
  );
const WANTED = { ...ORDER, strategy: 'coldstart', diskGib: 10, maxPriceUsdPerHour: '0.50' };
const create = (body: Record<string, unknown> = {}, headers: Record<string, string> = {}) =>
  server.call('POST', '/api/v1/instances', { key, body: { ...WANTED, ...body }, headers });
const dryRun = async (body: Record<string, unknown> = {}) =>
  (await create({ ...body, dryRun: true })).body as ProvisionPlan;
const countOperations = async () =>
  Number(
    (
      await server.database.kysely
        .selectFrom('operations')
        .where('org_id', '=', orgId)
        .select(sql<bigint>`count(*)`.as('n'))
        .executeTakeFirstOrThrow()
    ).n,
  );
/** The market after the plan: the prices of the given offers changed, those with null gone. */
const moveMarket = (changed: Record<string, bigint | null>) => {
  const before: Record<string, bigint | null> = { 1: 400_000n, 2: 300_000n, 3: 310_000n, 4: 305_000n, ...changed };
  const left = Object.entries(before).filter((one): one is [string, bigint] => one[1] !== null);
  return market(
    left.map(([, price]) => price),
    left.map(([id]) => ({ providerOfferId: id, machineId: `m${id}` })),
  );
};
const firstOf = (plan: ProvisionPlan) =>
  plan.candidates.find((one) => one.isFirstChoice) as ProvisionPlan['candidates'][number];

describe('a dry run', () => {
  it('quotes every candidate, tells chance and time with the evidence behind them, and buys nothing', async () => {
    const plan = await dryRun();
    expect(plan.planHash).toMatch(/^[0-9a-f]{64}$/);
    expect(Date.parse(plan.expiresAt) - Date.now()).toBeGreaterThan(9 * 60_000);
    expect(plan.candidates).toHaveLength(4);
    expect(plan.candidates.filter((one) => one.isFirstChoice)).toHaveLength(1);
    for (const one of plan.candidates) {
      expect(one.quote).toMatchObject({ priceMicroUsdPerHour: one.priceMicroUsdPerHour, expiresAt: plan.expiresAt });
      expect(one.quote.id).toMatch(/^quo_/);
      expect(one).toMatchObject({ evidence: { machineAttempts: 0, providerAttempts: 0 }, p50ReadyMs: null });
      expect(one.chanceOfSuccess).toBeGreaterThan(0.5);
    }
    expect(plan.priceMicroUsdPerHour).toBe(firstOf(plan).priceMicroUsdPerHour);
    expect(plan).toMatchObject({ raceWidth: 1, shortage: null, closedProviders: [] });
    expect(await countOperations()).toBe(0);
  });

  it('says so where the agents of the deployment are off', async () => {
    expect((await dryRun()).notes).toEqual([]);
    server.deps.agents.isOn = false;
    expect((await dryRun()).notes).toMatchObject([
      expect.stringMatching(/^agents are off in this deployment .* no GPU metrics/),
    ]);
    delete server.deps.agents.isOn;
  });

  it('advises how wide to race', async () => {
    const plan = await dryRun({ strategy: 'race', raceWidth: 2, maxRaceCostUsd: '5.00' });
    expect(plan).toMatchObject({ raceWidth: 2, advisedRaceWidth: 4 });
    expect(plan.candidates.filter((one) => one.isFirstChoice)).toHaveLength(2);
  });

  it('quotes nothing of a provider at which nothing can be bought now, and says why', async () => {
    const { kysely } = server.database;
    await recordQuarantine(kysely, 'vastai', 'offers', 'quarantined', 'the listing fell by half');
    const plan = await dryRun();
    expect(plan.candidates).toEqual([]);
    expect(plan.closedProviders).toEqual([{ provider: 'vastai', reason: 'the listing fell by half' }]);
    expect(plan.shortage).toContain('4 of providers at which nothing can be bought now');
  });
});

describe('a request with a planHash', () => {
  it('is accepted while the quotes hold, and held to the dearest of them', async () => {
    const plan = await dryRun();
    const reply = await create({ planHash: plan.planHash });
    expect(reply.status).toBe(202);
    const row = await server.database.kysely
      .selectFrom('instances')
      .selectAll()
      .where('id', '=', reply.body.instances[0].id)
      .executeTakeFirstOrThrow();
    expect((row.request as ProvisionRequest).maxPriceMicroUsdPerHour).toBe(408_000);
    expect((row.request as ProvisionRequest).planSeed).toMatch(/^pln_/);
    expect(row.max_price_micro_usd_per_hour).toBe(408_000n);
  });

  it('is refused before anything is accepted when what it would buy first rose by more than the tolerance', async () => {
    const plan = await dryRun();
    const first = firstOf(plan);
    const risen = BigInt(Math.round(first.priceMicroUsdPerHour * 1.03));
    await moveMarket({ [first.providerOfferId]: risen });
    const refused = await create({ planHash: plan.planHash });
    expect(refused.status).toBe(409);
    expect(refused.body).toMatchObject({ code: 'plan_changed', errors: [{ path: 'planHash' }] });
    expect(refused.body.differences).toEqual([
      {
        quoteId: first.quote.id,
        provider: 'vastai',
        providerOfferId: first.providerOfferId,
        kind: 'price_moved',
        isRefusing: true,
        quotedMicroUsdPerHour: first.priceMicroUsdPerHour,
        nowMicroUsdPerHour: Number(risen),
        movedPercent: 3,
      },
    ]);
    expect(await countOperations()).toBe(0);
    expect((await create({ planHash: plan.planHash, priceTolerancePercent: 3 })).status).toBe(202);
  });

  it('is refused when what it would buy first vanished, and not for another candidate', async () => {
    const plan = await dryRun();
    const other = plan.candidates.find((one) => !one.isFirstChoice);
    await moveMarket({ [other?.providerOfferId as string]: null });
    expect((await create({ planHash: plan.planHash })).status).toBe(202);
    await moveMarket({ [firstOf(plan).providerOfferId]: null });
    const refused = await create({ planHash: plan.planHash, name: 'again' });
    // Its first name was generated: with another one it is another request.
    expect(refused.body.code).toBe('conflict');
    const again = await create({ planHash: plan.planHash });
    expect(again.body).toMatchObject({
      code: 'plan_changed',
      differences: [{ kind: 'vanished', nowMicroUsdPerHour: null }],
    });
    expect(again.body.detail).toContain('cannot be bought any more');
  });

  it('is refused when its time is over, and when nobody knows it here', async () => {
    const plan = await dryRun();
    await sql`update plans set expires_at = now() where plan_hash = ${plan.planHash}`.execute(server.database.kysely);
    const late = await create({ planHash: plan.planHash });
    expect(late.body).toMatchObject({ code: 'plan_changed' });
    expect(late.body.differences).toHaveLength(4);
    expect(late.body.differences[0]).toMatchObject({ kind: 'expired' });
    expect((await create({ planHash: 'ab'.repeat(32) })).body.code).toBe('plan_changed');
    const stranger = await server.makeKey('operator');
    const fresh = await dryRun();
    const theirs = await server.call('POST', '/api/v1/instances', {
      key: stranger.key,
      body: { ...WANTED, planHash: fresh.planHash },
    });
    expect(theirs.body.code).toBe('plan_changed');
  });

  it('answers again what it answered first to the same idempotency key, whatever the market does', async () => {
    const plan = await dryRun();
    const headers = { 'idempotency-key': 'once' };
    const first = await create({ planHash: plan.planHash }, headers);
    await moveMarket({ [firstOf(plan).providerOfferId]: null });
    const second = await create({ planHash: plan.planHash }, headers);
    expect(second.status).toBe(202);
    expect(second.body).toEqual(first.body);
    expect(await countOperations()).toBe(1);
  });

  it('refuses a tolerance that is none', async () => {
    for (const priceTolerancePercent of [-1, 101, 'much']) {
      expect((await create({ priceTolerancePercent })).status).toBe(422);
    }
  });
});

describe('old plans', () => {
  it('are forgotten an hour after they expired, when the org plans again', async () => {
    const old = await dryRun();
    await sql`update plans set expires_at = now() - interval '61 minutes' where plan_hash = ${old.planHash}`.execute(
      server.database.kysely,
    );
    await dryRun();
    const left = await server.database.kysely
      .selectFrom('plans')
      .select('plan_hash')
      .where('org_id', '=', orgId)
      .execute();
    expect(left).toHaveLength(1);
    expect(left[0]?.plan_hash).not.toBe(old.planHash);
  });
});
