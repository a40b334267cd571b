import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listOffers, startApiServer, type ApiServer } from '../support/api-server.ts';
import { recordReadyInstance, recordSleep } from '../support/sleeping-record.ts';
import { makeHome, runMuster } from './run-muster.ts';

let server: ApiServer;
let owner: { key: string; orgId: string };
const home = makeHome();
beforeAll(async () => {
  server = await startApiServer();
  owner = await server.makeKey('operator');
  await listOffers(server, [{ priceMicroUsdPerHour: 300_000n }]);
});
afterAll(async () => {
  await server?.stop();
  home.remove();
});

const muster = (...args: string[]) =>
  runMuster(home, args, { env: { MUSTER_URL: server.url, MUSTER_API_KEY: owner.key } });
const makeReady = () => recordReadyInstance(server, owner, { hibernateWhenIdle: {} });

describe('muster instances hibernate', () => {
  it('puts it to sleep, and says by what', async () => {
    const { id } = await makeReady();
    const answer = await muster('instances', 'hibernate', id, '--reason', 'over night');
    expect(answer.code).toBe(0);
    expect(answer.stdout).toMatch(new RegExp(`${id} goes to sleep.*, by op_`));
    expect((await muster('instances', 'get', id)).stdout).toMatch(/^sleep +copying \(request\)$/m);
  });

  it('says why it cannot be', async () => {
    const { id } = await recordReadyInstance(server, owner, {});
    const answer = await muster('instances', 'hibernate', id);
    expect(answer.code).toBe(1);
    expect(answer.stderr).toContain('has no workspace');
  });
});

describe('muster instances wake', () => {
  it('shows the price, and spends nothing where nobody agreed', async () => {
    const { id, attemptId } = await makeReady();
    await recordSleep(server, owner, id, attemptId);
    const shown = await muster('instances', 'get', id);
    expect(shown.stdout).toContain('its files cost $0.24 a month');
    expect(shown.stdout).toMatch(/^saved +\$0\.(39|40)/m);
    const plan = await muster('instances', 'wake', id, '--dry-run');
    expect(plan.code).toBe(0);
    expect(plan.stdout).toMatch(/^price +\$0\.306 an hour$/m);
    expect(plan.stdout).toContain('41.00 GB');
    expect((await muster('instances', 'wake', id)).code).toBe(2);
    expect((await muster('instances', 'get', id)).stdout).toMatch(/^status +hibernated/m);
    const woken = await muster('instances', 'wake', id, '--yes');
    expect(woken.stdout).toMatch(new RegExp(`${id} wakes, by op_`));
    expect((await muster('instances', 'get', id, '--json')).stdout).toContain('"status": "waking"');
  });
});
