import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { recordOutcome } from '../../db/machines.ts';
import { recordReadySample } from '../../db/ready-samples.ts';
import type { MachineOutcome } from '../../domain/machine-history.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { startApiServer, type ApiServer } from '../support/api-server.ts';

let server: ApiServer;
let viewer: string;
beforeAll(async () => {
  server = await startApiServer();
  viewer = (await server.makeKey('viewer')).key;
  for (let failures = 0; failures < 3; failures++) await record('vastai', 'bad', { kind: 'failed' });
  await record('vastai', 'good', { kind: 'ready', readyMs: 40_000 });
  await record('runpod', 'other', { kind: 'ready', readyMs: 1_000 });
  await recordReadySample(server.database.kysely, {
    attemptId: 'att_1',
    provider: 'vastai',
    machineId: 'good',
    gpu: 'RTX 4090',
    readyMs: 40_000,
    at: new Date(),
  });
});
afterAll(() => server?.stop());

function record(provider: ProviderName, machineId: string, outcome: MachineOutcome): Promise<void> {
  const failure = outcome.kind === 'failed' ? { code: 'boot_timeout' } : null;
  return server.database.kysely
    .transaction()
    .execute((tx) => recordOutcome(tx, { provider, machineId }, outcome, failure, new Date()));
}
const read = (path: string) => server.call('GET', `/api/v1/machines/${path}`, { key: viewer });

describe('machines', () => {
  it('have a history in pages, by provider', async () => {
    const first = await read('history?limit=2');
    expect(first.body.items.map((item: { machineId: string }) => item.machineId)).toEqual(['other', 'bad']);
    const second = await read(`history?limit=2&cursor=${first.body.nextCursor}`);
    expect(second.body).toMatchObject({
      items: [
        {
          provider: 'vastai',
          machineId: 'good',
          attempts: 1,
          successes: 1,
          p50ReadyMs: 40_000,
          p95ReadyMs: 40_000,
          denylisted: false,
        },
      ],
      nextCursor: null,
    });
    expect((await read('history?provider=runpod')).body.items).toHaveLength(1);
  });

  it('that failed too often are on the denylist by themselves, with the reason and until when', async () => {
    const { body } = await read('denylist');
    expect(body.items).toMatchObject([
      {
        machineId: 'bad',
        denylisted: true,
        denylistedBy: 'automatic',
        denylistReason: '0 of 3 attempts became ready',
        lastFailureCode: 'boot_timeout',
      },
    ]);
    expect(Date.parse(body.items[0].denylistedUntil)).toBeGreaterThan(Date.now() + 23 * 3_600_000);
  });

  it('show each denylisting and lift to whoever may read, changed only by the admin', async () => {
    const operator = (await server.makeKey('operator')).key;
    const path = '/api/v1/machines/vastai/good/denylist';
    const order = { reason: 'slow disk', for: '3 days' };
    expect((await server.call('POST', path, { key: operator, body: order })).status).toBe(403);
    expect((await server.call('POST', path, { body: order })).body).toMatchObject({
      denylisted: true,
      denylistedBy: 'person',
    });
    expect((await server.call('DELETE', path)).body).toMatchObject({ denylisted: false, denylistedUntil: null });
    expect((await read('vastai/good')).body.denylistings).toMatchObject([
      { action: 'lift', by: 'person', reason: null },
      { action: 'denylist', by: 'person', reason: 'slow disk' },
    ]);
    expect((await read('vastai/bad')).body.denylistings).toMatchObject([{ action: 'denylist', by: 'automatic' }]);
    expect((await read('vastai/unheard-of')).status).toBe(404);
    expect((await server.call('DELETE', '/api/v1/machines/vastai/unheard-of/denylist')).status).toBe(404);
  });
});
