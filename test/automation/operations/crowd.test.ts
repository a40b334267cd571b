/** Many requests at once on two replicas, for fewer offers than requests. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';

const REQUESTS = 18;
const OFFERS = 7;

let automation: ScriptedAutomation;
beforeEach(async () => {
  automation = await createScriptedAutomation();
  await automation.openMarket(OFFERS);
});
afterEach(() => automation.close());

describe('more requests than offers', () => {
  it('buys every offer once, without a refused call, and fails the others with no_capacity and the reason', async () => {
    await Promise.all([automation.startWorker('replica-1'), automation.startWorker('replica-2')]);
    const made = await Promise.all(Array.from({ length: REQUESTS }, () => automation.provision()));
    const failed = await automation.until(
      async () => {
        const all = await Promise.all(made.map(({ operation }) => automation.operation(operation.id)));
        const over = all.filter((one) => one.finished_at !== null);
        return over.length === REQUESTS - OFFERS && over;
      },
      'the requests without an offer have failed',
      18_000,
    );
    for (const one of failed) {
      expect(one).toMatchObject({ status: 'failed', error_code: 'no_capacity' });
      expect(one.error_detail).toContain('bought or refused in the last minutes');
    }
    const bought = (await automation.untilBought(OFFERS)).map((attempt) => attempt.provider_offer_id);
    expect(new Set(bought).size).toBe(OFFERS);
    expect(automation.vendor.bought()).toHaveLength(OFFERS);
    expect(automation.vendor.live()).toHaveLength(OFFERS);
    expect((await automation.attempts()).reduce((sum, attempt) => sum + attempt.purchase_calls, 0)).toBe(OFFERS);
  });
});
