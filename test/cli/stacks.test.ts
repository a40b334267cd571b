import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { saveStackPending } from '../../db/stacks.ts';
import { startApiServer, type ApiServer } from '../support/api-server.ts';
import { createStateWire, engineEvents, makeEngineStack } from '../support/state-wire.ts';
import { makeHome, runMuster, type Home } from './run-muster.ts';

let server: ApiServer;
let home: Home;
let key: string;
let stackId: string;
beforeAll(async () => {
  server = await startApiServer();
  ({ key } = await server.makeKey('operator'));
  home = makeHome();
  const body = { name: 'train', kind: 'eks', config: { region: 'us-east-1' }, costCentre: 'research' };
  stackId = (await server.call('POST', '/api/v1/stacks', { key, body })).body.id;
});
afterAll(async () => {
  home.remove();
  await server.stop();
});

const run = (...args: string[]) =>
  runMuster(home, ['stacks', ...args], { env: { MUSTER_API_KEY: key, MUSTER_URL: server.url } });

describe('muster stacks get', () => {
  it('says that nobody has looked for drift yet, and when somebody has', async () => {
    expect((await run('get', stackId)).stdout).toMatch(/drift +nobody has looked yet/);
    await server.database.kysely
      .updateTable('stacks')
      .set({ drift: '[]', drift_checked_at: new Date(Date.now() - 120_000) })
      .execute();
    expect((await run('get', stackId)).stdout).toMatch(/drift +0 resources, looked at 2m.* ago/);
  });
});

describe('muster stacks pending', () => {
  it('lists what was interrupted and decides it by its name, asking before it is called not made', async () => {
    expect((await run('pending', 'list', stackId)).stdout).toMatch(/Nothing has to be decided/);
    const one = (urn: string, name: string) => ({
      urn,
      name,
      type: 't',
      why: 'no rule',
      found: ['x-1'],
      decision: null,
    });
    await saveStackPending(server.database.kysely, stackId, [
      one('u:db', 'db'),
      one('u:a', 'twin'),
      one('u:b', 'twin'),
    ]);
    expect((await run('get', stackId)).stdout).toMatch(/to decide +3 interrupted creates/);
    const imported = await run('pending', 'import', stackId, 'db', 'db-1');
    expect(imported).toMatchObject({ code: 0 });
    expect(imported.stdout).toMatch(/db +t +import db-1 +x-1 +no rule/);
    expect(await run('pending', 'clear', stackId, 'twin', '--yes')).toMatchObject({ code: 2 });
    expect(await run('pending', 'clear', stackId, 'none', '--yes')).toMatchObject({ code: 4 });
    expect(await run('pending', 'clear', stackId, 'u:a')).toMatchObject({ code: 2 });
    const cleared = await run('pending', 'clear', stackId, 'u:a', '--yes');
    expect(cleared.stdout).toMatch(/twin +t +clear/);
    expect(cleared.stderr).toMatch(/1 more to decide/);
  });
});

describe('muster stacks history, events and cancel', () => {
  it("show a person's update, what its engine told, and end it", async () => {
    const { name } = await server.database.kysely
      .selectFrom('stacks')
      .select('name')
      .where('id', '=', stackId)
      .executeTakeFirstOrThrow();
    expect(await run('cancel', stackId)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/no update .*under way/),
    });
    expect(await run('events', stackId)).toMatchObject({
      code: 4,
      stderr: expect.stringMatching(/Nobody has updated/),
    });
    await makeEngineStack(server, stackId, name);
    const path = `muster/${name}`;
    const wire = createStateWire(server.url, key, path);
    const update = await wire.begin();
    const { started, done, summary } = engineEvents;
    const events = [started(0, path, 'a'), done(1, path, 'a'), summary(2, { create: 1 })];
    await wire.write(update, 'POST', 'events/batch', { events });
    const history = await run('history', stackId);
    expect(history.stdout).toMatch(new RegExp(`${update.id} +update +running +key_\\w+ +- +1 +1 create`));
    const canceled = await run('cancel', stackId);
    expect(canceled.stdout).toMatch(/The update of key_\w+ has ended/);
    const told = await run('events', stackId);
    expect(told.stdout).toMatch(/creating a\n.*created a as id-a\n.*1 create\n/);
    expect((await run('history', stackId)).stdout).toMatch(/canceled .*canceled by key_/);
  });
});
