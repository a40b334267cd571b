import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { setInstanceStatus } from '../../db/instances.ts';
import { startStandbyFleet, type StandbyFleet } from '../support/standby-fleet.ts';
import { makeHome, runMuster } from './run-muster.ts';

let fleet: StandbyFleet;
const home = makeHome();
beforeAll(async () => {
  fleet = await startStandbyFleet();
});
afterAll(async () => {
  await fleet?.stop();
  home.remove();
});

const muster = (...args: string[]) =>
  runMuster(home, args, { env: { MUSTER_URL: fleet.server.url, MUSTER_API_KEY: fleet.server.adminKey } });

describe('muster', () => {
  it('shows where an instance is, sets its policy, and fails it over', { timeout: 120_000 }, async () => {
    const { instanceId } = await fleet.make('warm');
    const nowhere = await muster('instances', 'endpoint', instanceId);
    expect(nowhere).toMatchObject({ code: 1, stdout: 'nowhere at this moment\n' });
    await setInstanceStatus(fleet.server.database.kysely, instanceId, 'ready');
    expect((await muster('instances', 'endpoint', instanceId)).stdout).toBe('root@127.0.0.1:1  (instance)\n');
    const options = ['--mode', 'replace', '--rpo', '1 minute', '--max-per-day', '2'];
    const policy = await muster('instances', 'failover-policy', instanceId, ...options);
    expect(policy.stdout).toMatch(
      /mode +replace\nrpo +1m\nprice +as asked for\nbudget +no bound\ncool-down +10m, at most 2 a day/,
    );
    expect((await muster('instances', 'failover-policy', instanceId, '--rpo', '1 minute')).code).toBe(2);
    await fleet.verified(instanceId, new Date());
    const order = ['instances', 'failover', instanceId, '--reason', 'the host is noisy'];
    expect((await muster(...order)).code).not.toBe(0);
    const begun = await muster(...order, '--yes');
    expect(begun.stdout).toMatch(/^fov_[a-z2-7]{16} is detected: op_[a-z2-7]{16}\n$/);
    const id = begun.stdout.slice(0, 20);
    const [listed, shown] = await Promise.all([muster('failovers', 'list'), muster('failovers', 'get', id)]);
    expect(listed.stdout).toMatch(new RegExp(`${id} +${instanceId} +requested +replace +detected`));
    expect(shown.stdout).toMatch(/cause +requested: the host is noisy/);
    expect(shown.stdout).toMatch(/detected +2\d{3}-/);
  });
});
