import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { REQUIRED_TAGS } from '../../domain/stack-tags.ts';
import { makeStep } from '../support/scripted-stack-runner.ts';
import { startClusterServer, type ClusterServer } from '../support/cluster-server.ts';
import { listOffers, ORDER } from '../support/api-server.ts';
import { makeHome, runMuster, type Home } from './run-muster.ts';

let server: ClusterServer;
let home: Home;
let instanceId: string;
beforeAll(async () => {
  server = await startClusterServer();
  home = makeHome();
  await listOffers(
    server,
    Array.from({ length: 8 }, () => ({})),
  );
  const accepted = await server.call('POST', '/api/v1/instances', { body: ORDER });
  instanceId = accepted.body.instances[0].id;
  // Its provision may end as it likes: the standby stands by for what is there.
  await server.database.kysely
    .updateTable('operations')
    .set({ status: 'succeeded', finished_at: new Date() })
    .execute();
  await server.database.kysely.updateTable('instances').set({ status: 'booting' }).execute();
});
afterAll(async () => {
  home.remove();
  await server.stop();
});

const run = (...args: string[]) =>
  runMuster(home, ['standby', ...args], { env: { MUSTER_API_KEY: server.adminKey, MUSTER_URL: server.url } });

const place = ['--project', 'a-project', '--zone', 'us-central1-a', '--fallback-zone', 'us-central1-b'];

describe('muster standby', () => {
  it('shows the price first, makes what was shown, and tells how old its data is', async () => {
    const labels = Object.fromEntries(REQUIRED_TAGS.map((tag) => [tag, 'x']));
    server.runner.steps = [
      makeStep('gcp:compute/instance:Instance', 'stand', 'create', {
        zone: 'us-central1-a',
        machineType: 'e2-standard-4',
        desiredStatus: 'RUNNING',
        labels,
      }),
    ];
    const wish = ['--instance-id', instanceId, '--name', 'stand', '--rpo', '5 minutes', '--state', 'warm', ...place];
    const shown = await run('create', ...wish, '--dry-run');
    expect(shown.code, shown.stderr).toBe(0);
    expect(shown.stdout).toMatch(/create +stand +gcp:compute\/instance:Instance +- +\$?0\.1/);
    const made = await run('create', ...wish, '--yes', '--watch');
    expect(made.code, made.stderr).toBe(0);
    const list = await run('list');
    expect(list.stdout).toMatch(new RegExp(`stand +${instanceId} +warm +5 ?m`));
    const id = /sby_[a-z2-7]{16}/.exec(list.stdout)?.[0] as string;
    const got = await run('get', id);
    expect(got.stdout).toMatch(/agent +has never run/);
    expect(got.stdout).toMatch(/data +none yet/);
    const refused = await run('drill', id, '--yes');
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/a drill begins with one that is ready/);
    const gone = await run('delete', id, '--yes', '--watch');
    expect(gone.code, gone.stderr).toBe(0);
    expect((await run('list')).stdout).not.toContain(id);
  }, 60_000);

  it('does not begin without a yes', async () => {
    const refused = await run('delete', 'sby_aaaaaaaaaaaaaaaa');
    expect(refused.code).not.toBe(0);
  });
});
