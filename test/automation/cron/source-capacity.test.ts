import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createSourceCapacityCron } from '../../../automation/cron/source-capacity.ts';
import { acceptSourced } from '../../../db/accept-sourced.ts';
import { replaceOffers } from '../../../db/offers.ts';
import { recordQuarantine } from '../../../db/providers.ts';
import {
  countLiveSourced,
  insertSourcingRule,
  listSourcingRules,
  type SourcingRuleFields,
  type SourcingRuleRow,
} from '../../../db/sourcing-rules.ts';
import { DEFAULT_IMAGE } from '../../../domain/provision-request.ts';
import type { SourcingMode } from '../../../domain/sourcing.ts';
import { createFleetDatabase, makeOffer, type FleetDatabase } from '../../support/fleet-database.ts';

const BOUNDS = { maxInstances: 5, maxLifetimeMs: 12 * 3_600_000, bootTimeoutMs: 900_000 };

let fleet: FleetDatabase;
beforeEach(async () => {
  fleet = await createFleetDatabase({ poolSize: 16 });
  await fleet.listOffers(10);
});
afterEach(() => fleet.close());

async function addRule(change: Partial<SourcingRuleFields> = {}, orgId = fleet.orgId): Promise<SourcingRuleRow> {
  const rule: SourcingRuleFields = {
    name: 'spare',
    enabled: true,
    target: 2,
    maxPriceMicroUsdPerHour: 400_000n,
    consumer: 'search-team',
    wanted: {
      gpu: 'RTX 4090',
      gpuCount: 1,
      minGpuMemoryGib: null,
      diskGib: 40,
      image: DEFAULT_IMAGE,
      providers: [],
      regions: [],
      minReliability: null,
      interruptible: false,
      sshPublicKeys: [],
    },
    ...change,
  };
  const row = await fleet.db
    .transaction()
    .execute((tx) => insertSourcingRule(tx, { ...rule, orgId, createdBy: 'usr_test' }));
  return row as SourcingRuleRow;
}

function cron(mode: SourcingMode, change: Partial<typeof BOUNDS> = {}) {
  return createSourceCapacityCron({
    ...BOUNDS,
    ...change,
    mode,
    db: fleet.db,
    queue: fleet.queue,
    now: () => new Date(),
    log: pino({ level: 'silent' }),
  });
}
const tick = (mode: SourcingMode, change: Partial<typeof BOUNDS> = {}) =>
  cron(mode, change).run(new AbortController().signal);
const instances = () => fleet.db.selectFrom('instances').selectAll().execute();
const ruleNow = async () => (await listSourcingRules(fleet.db, { limit: 1 }))[0] as SourcingRuleRow;

describe('the source-capacity cron', () => {
  it('has nothing to do while sourcing is off or no rule is enabled', async () => {
    expect(await cron('provision').hasWork?.()).toBe(false);
    await addRule({ enabled: false });
    expect(await cron('provision').hasWork?.()).toBe(false);
    await addRule({ name: 'on' });
    expect(await cron('off').hasWork?.()).toBe(false);
    expect(await cron('search').hasWork?.()).toBe(true);
    await tick('off');
    expect(await instances()).toEqual([]);
  });

  it('finds candidates and buys nothing while it may only search', async () => {
    await addRule();
    expect(await tick('search')).toMatchObject({ rules: 1, candidates: 10, bought: 0 });
    expect(await ruleNow()).toMatchObject({ outcome: 'search_only', fitting: 10 });
    expect((await ruleNow()).candidates).toHaveLength(10);
    expect(await instances()).toEqual([]);
  });

  it('buys up to the target by ordinary operations, with the rule as their actor, and once', async () => {
    const rule = await addRule();
    expect(await tick('provision')).toMatchObject({ bought: 2 });
    expect(await tick('provision')).toMatchObject({ bought: 0 });
    expect(await ruleNow()).toMatchObject({ outcome: 'satisfied' });
    expect(await instances()).toMatchObject([
      { created_by: rule.id, consumer: 'search-team', status: 'requested', max_price_micro_usd_per_hour: 400_000n },
      { created_by: rule.id },
    ]);
    const operations = await fleet.db.selectFrom('operations').selectAll().execute();
    expect(operations).toMatchObject([
      { kind: 'provision_instance', created_by: rule.id },
      { kind: 'provision_instance' },
    ]);
  });

  it('buys nothing above the price ceiling of its rule and says what the cheapest costs', async () => {
    await addRule({ maxPriceMicroUsdPerHour: 100_000n });
    expect(await tick('provision')).toMatchObject({ bought: 0, candidates: 0 });
    expect((await ruleNow()).reason).toMatch(/cheapest \$0\.35/);
  });

  it('buys nothing on the word of a market that is not believed', async () => {
    await addRule();
    await recordQuarantine(fleet.db, 'vastai', 'offers', 'quarantined', 'the listing of offers is empty');
    expect(await tick('provision')).toMatchObject({ bought: 0 });
    expect(await ruleNow()).toMatchObject({
      outcome: 'no_candidates',
      reason: 'no listing of offers is believed now',
    });
  });

  it('tries a failing rule again only after a while, with the reason shown', async () => {
    const rule = await addRule({ target: 1 });
    await tick('provision');
    await fleet.db
      .updateTable('instances')
      .set({ status: 'destroyed', destroy_requested_at: new Date(), failure_detail: 'SSH never answered' })
      .execute();
    expect(await tick('provision')).toMatchObject({ bought: 0 });
    const waiting = await ruleNow();
    expect(waiting).toMatchObject({ outcome: 'backing_off', reason: 'failed once: SSH never answered' });
    expect(waiting.retry_at?.getTime()).toBeGreaterThan(Date.now());
    await fleet.passTime(6 * 60_000);
    await replaceOffers(fleet.db, 'vastai', [makeOffer(1)], new Date());
    expect(await tick('provision')).toMatchObject({ bought: 1 });
    expect(rule.id).toBe((await ruleNow()).id);
  });
});

describe('the cap of sourced instances', () => {
  it('holds over all orgs and rules, also of a rule that was deleted and when many accept at once', async () => {
    const first = await addRule({ target: 5 });
    const second = await addRule({ target: 5 }, await fleet.makeOrg());
    const accept = (rule: SourcingRuleRow) =>
      fleet.db.transaction().execute((tx) => acceptSourced(tx, fleet.queue, rule.id, BOUNDS));
    const outcomes = await Promise.allSettled([first, second, first, second, first, second, first, second].map(accept));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(5);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'cap_exceeded' });
    }
    expect(await countLiveSourced(fleet.db)).toBe(5);
    expect(await instances()).toHaveLength(5);
  });

  it('and the target are also kept where ticks run at once', async () => {
    await addRule({ target: 3 });
    await Promise.all([tick('provision'), tick('provision'), tick('provision')]);
    expect(await instances()).toHaveLength(3);
  });

  it('of the deployment refuses what is above it, and the rule says so', async () => {
    await addRule({ target: 3 });
    await fleet.db.updateTable('deployment').set({ max_instances: 1 }).execute();
    expect(await tick('provision')).toMatchObject({ bought: 1, refused: 1 });
    expect(await ruleNow()).toMatchObject({ outcome: 'refused' });
    expect((await ruleNow()).reason).toMatch(/MUSTER_MAX_INSTANCES/);
  });
});
