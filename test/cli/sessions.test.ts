import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listOffers, startApiServer, type ApiServer } from '../support/api-server.ts';
import { makeHome, runMuster } from './run-muster.ts';

let server: ApiServer;
const home = makeHome();
beforeAll(async () => {
  server = await startApiServer();
  await listOffers(server, [{}]);
});
afterAll(async () => {
  await server?.stop();
  home.remove();
});

const muster = (...args: string[]) =>
  runMuster(home, args, { env: { MUSTER_URL: server.url, MUSTER_API_KEY: server.adminKey } });

describe('muster sessions', () => {
  it('opens one by an offer, shows, extends and ends it, and keeps its key in a file of mode 600', async () => {
    const { id: offerId } = await server.database.kysely.selectFrom('offers').select('id').executeTakeFirstOrThrow();
    const opened = await muster(
      'provision',
      '--offer-id',
      offerId,
      '--consumer',
      'search',
      '--hours',
      '2',
      '--yes',
      '--json',
    );
    expect(opened.code).toBe(0);
    const { session } = JSON.parse(opened.stdout) as { session: { id: string } };
    expect((await muster('sessions', 'list')).stdout).toContain(session.id);
    const file = join(home.path, 'key');
    expect((await muster('sessions', 'ssh-key', session.id, '--out', file)).code).toBe(0);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(file, 'utf8')).toContain('OPENSSH PRIVATE KEY');
    expect((await muster('sessions', 'extend', session.id, '--hours', '1')).stdout).toMatch(
      /ends in +2h 59m|ends in +3h/,
    );
    expect((await muster('sessions', 'diagnostics', session.id)).stdout).toContain('opening');
    expect((await muster('sessions', 'done', session.id, '--yes')).stdout).toContain('is ending by op_');
    expect((await muster('sessions', 'get', session.id)).stdout).toContain('ending');
    expect((await muster('costs', 'summary')).stdout).toContain('forecast');
  });
});
