import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';

let automation: ScriptedAutomation;
beforeEach(async () => {
  automation = await createScriptedAutomation();
  await automation.openMarket(5);
});
afterEach(() => automation.close());

describe('the expire cron', () => {
  it('hands what outlived its lifetime to the ordinary destroy, once, and leaves the rest', async () => {
    const short = await automation.provision({ maxLifetimeMs: 3_600_000 });
    const long = await automation.provision({ maxLifetimeMs: 7_200_000 });
    const unbounded = await automation.provision({ maxLifetimeMs: null });
    await automation.startWorker();
    const bought = await automation.untilBought(3);
    for (const { operation } of [short, long, unbounded]) await automation.untilWaiting(operation.id);
    for (const attempt of bought) await automation.recordReady(attempt);
    for (const { operation } of [short, long, unbounded]) await automation.untilFinished(operation.id);
    expect(await automation.tick('expire')).toMatchObject({ expired: 0 });
    await automation.passTime(3_600_001);
    expect(await automation.tick('expire')).toMatchObject({ expired: 1 });
    expect(await automation.tick('expire')).toMatchObject({ expired: 0 });
    const gone = await automation.untilDestroyed(short.instances[0]?.id as string);
    expect(gone).toMatchObject({ failure_code: 'expired' });
    expect(gone.failure_detail).toMatch(/its lifetime ended at/);
    expect(automation.vendor.live()).toHaveLength(2);
    const destroys = await automation.db
      .selectFrom('operations')
      .select(['kind', 'created_by'])
      .where('kind', '<>', 'provision_instance')
      .execute();
    expect(destroys).toEqual([{ kind: 'destroy_instance', created_by: 'system' }]);
  });
});
