import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listOffers, startApiServer, type ApiServer } from '../support/api-server.ts';
import { recordWarm } from '../support/warm-record.ts';
import { makeHome, runMuster } from './run-muster.ts';

let server: ApiServer;
const home = makeHome();
beforeAll(async () => {
  server = await startApiServer();
  await listOffers(server, [{ priceMicroUsdPerHour: 300_000n }, { priceMicroUsdPerHour: 340_000n }]);
});
afterAll(async () => {
  await server?.stop();
  home.remove();
});

const muster = (...args: string[]) =>
  runMuster(home, args, { env: { MUSTER_URL: server.url, MUSTER_API_KEY: server.adminKey } });
const KEPT = ['--gpu', 'RTX 4090', '--target', '2', '--max-price-usd-per-hour', '0.50', '--disk-gib', '10'];

describe('muster pools', () => {
  it('shows the price first, and keeps nothing where nobody agreed', async () => {
    const plan = await muster('pools', 'create', '--name', 'warm', ...KEPT, '--dry-run');
    expect(plan.code).toBe(0);
    expect(plan.stdout).toContain('2 warm: about $0.64 an hour, $460.80 in 30 days');
    expect(plan.stdout).toContain('never more than $1.00 an hour, $720.00 in 30 days');
    const asked = await muster('pools', 'create', '--name', 'warm', ...KEPT);
    expect(asked.code).toBe(2);
    expect(asked.stderr).toContain('--yes');
    expect((await muster('pools', 'list')).stderr).toContain('Nothing found');
  });

  it('makes, shows, changes and deletes one', async () => {
    const made = await muster('pools', 'create', '--name', 'spare', ...KEPT, '--regions', 'se', '--yes', '--json');
    expect(made.code).toBe(0);
    const { id } = JSON.parse(made.stdout) as { id: string };
    await recordWarm(server, id, [300_000n]);
    expect((await muster('pools', 'list')).stdout).toMatch(/spare +1 × RTX 4090 +1 +1 +2 +\$0\.30 +\$1\.00/);
    const order = ['instances', 'create', '--gpu', 'RTX 4090', '--max-price-usd-per-hour', '0.60', '--disk-gib', '10'];
    const claim = await muster(...order, '--strategy', 'serverless', '--dry-run');
    expect(claim.stdout).toMatch(/Warm: ins_\w+ at vastai SE, \$0\.30 an hour\./);
    const changed = await muster('pools', 'change', id, '--target', '1', '--idle-shrink-after', '1 hour', '--yes');
    expect(changed.stdout).toMatch(/^target +1, never more than 4 machines$/m);
    expect(changed.stdout).toMatch(/^when idle +keeps 1 after 1h without a request$/m);
    expect(changed.stdout).toMatch(/^keeps +1 × RTX 4090, 10 GiB/m);
    expect((await muster('pools', 'change', id)).code).toBe(2);
    const deleted = await muster('pools', 'delete', id, '--yes');
    expect(deleted.stdout).toMatch(/is deleted; 2 warm instances are being destroyed/);
    expect((await muster('pools', 'get', id)).code).not.toBe(0);
  });
});
