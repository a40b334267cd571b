import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inTransaction } from '../../db/database.ts';
import { sightFinding } from '../../db/findings.ts';
import { recordFloors } from '../../db/prices.ts';
import { listOffers, OFFER, startApiServer, type ApiServer } from '../support/api-server.ts';
import { makeHome, runMuster } from './run-muster.ts';

let server: ApiServer;
const home = makeHome();
beforeAll(async () => {
  server = await startApiServer();
  await listOffers(server, [{}]);
  await recordFloors(server.database.kysely, 'vastai', [{ ...OFFER, floorMicroUsdPerHour: 100_000n }], new Date());
});
afterAll(async () => {
  await server?.stop();
  home.remove();
});

const muster = (...args: string[]) =>
  runMuster(home, args, { env: { MUSTER_URL: server.url, MUSTER_API_KEY: server.adminKey } });
async function json<T>(...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await muster(...args, '--json');
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as T;
}

describe('the market from the command line', { timeout: 60_000 }, () => {
  it('shows prices over time and the spot market', async () => {
    const history = await muster('prices', 'history', '--gpu', 'RTX 4090', '--bucket', 'change');
    expect(history.code, history.stderr).toBe(0);
    expect(history.stdout).toMatch(/vastai +RTX 4090 +on demand +\$/);
    const spot = await muster('spot', 'market', '--gpu', 'RTX 4090');
    expect(spot.stdout).toMatch(/RTX 4090 +vastai +\$.* %/);
  });

  it('denylists a machine with a reason, shows and forgives it', async () => {
    const machine = ['vastai', OFFER.machineId as string];
    const refused = await muster('machines', 'denylist', 'add', ...machine);
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining('--reason')]);
    const added = await muster('machines', 'denylist', 'add', ...machine, '--reason', 'hot disks', '--for', '2 hours');
    expect(added.stdout, added.stderr).toContain('hot disks');
    expect((await muster('machines', 'denylist', 'list')).stdout).toContain(OFFER.machineId);
    expect((await muster('machines', 'get', ...machine)).stdout).toContain('denylist by person');
    expect((await muster('machines', 'denylist', 'lift', ...machine)).code).toBe(0);
    expect((await muster('machines', 'denylist', 'list')).stderr).toContain('Nothing found.');
    expect((await muster('machines', 'history')).code).toBe(0);
  });
});

describe('what watches over the fleet from the command line', { timeout: 60_000 }, () => {
  it('lists findings, and ignores one with a reason', async () => {
    await inTransaction(server.database.kysely, (tx) =>
      sightFinding(tx, {
        class: 'orphan',
        provider: 'vastai',
        providerInstanceId: '4711',
        attemptId: null,
        instanceId: null,
        orgId: null,
        label: 'muster-test-x',
        detail: 'nobody wants it',
        priceMicroUsdPerHour: 300_000n,
      }),
    );
    const { items } = await json<{ items: { id: string }[] }>('findings', 'list', '--status', 'open');
    const id = items[0]?.id as string;
    expect((await muster('findings', 'list')).stdout).toContain('nobody wants it');
    expect((await muster('findings', 'destroy', id)).code).not.toBe(0);
    expect((await muster('findings', 'ignore', id, '--reason', 'a test of mine')).stdout).toBe(`${id} is ignored.\n`);
  });

  it('makes, changes and deletes a sourcing rule', async () => {
    const what = ['--name', 'two', '--gpu', 'RTX 4090', '--target', '2', '--max-price-usd-per-hour', '0.50'];
    const rule = await json<{ id: string; target: number }>('sourcing', 'rules', 'create', ...what, '--enabled', 'no');
    expect(rule).toMatchObject({ target: 2, enabled: false });
    expect((await muster('sourcing', 'rules', 'change', rule.id, '--target', '3')).stdout).toMatch(/two .* 3 /);
    expect((await muster('sourcing', 'rules', 'change', rule.id)).code).toBe(2);
    expect((await muster('sourcing', 'candidates')).code).toBe(0);
    expect((await muster('sourcing', 'rules', 'delete', rule.id)).code).toBe(0);
    expect((await muster('sourcing', 'rules', 'list')).stderr).toContain('Nothing found.');
  });

  it('makes a webhook with a secret that is shown once, tests it and shows its log', async () => {
    const made = await muster('webhooks', 'create', 'https://hooks.example.com/a', '--events', 'instance.*');
    expect(made.code, made.stderr).toBe(0);
    const [, id] = /^webhook +(\S+)$/m.exec(made.stdout) as unknown as [string, string];
    expect(made.stdout).toMatch(/^secret +whsec_/m);
    expect((await muster('webhooks', 'list')).stdout).toMatch(/hooks\.example\.com\/a +instance\.\* +yes/);
    expect((await muster('webhooks', 'test', id)).code).toBe(0);
    expect((await muster('webhooks', 'deliveries', id)).stdout).toContain('webhook.test');
    expect((await muster('webhooks', 'delete', id, '--yes')).code).toBe(0);
  });
});
