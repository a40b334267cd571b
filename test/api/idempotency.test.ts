import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listOffers, ORDER, startApiServer, type ApiServer } from '../support/api-server.ts';

let server: ApiServer;
beforeAll(async () => {
  server = await startApiServer();
  await listOffers(server, [{}]);
});
afterAll(() => server?.stop());

const order = (key: string, body: unknown = ORDER, credential = server.adminKey) =>
  server.call('POST', '/api/v1/instances', { body, key: credential, headers: { 'idempotency-key': key } });

async function countInstances(): Promise<number> {
  return (await server.database.kysely.selectFrom('instances').select('id').execute()).length;
}

describe('an Idempotency-Key', () => {
  it('gives the first answer again, byte for byte, and has one effect', async () => {
    const before = await countInstances();
    const first = await order('a');
    const again = await order('a');
    expect(first.status).toBe(202);
    expect(again.status).toBe(202);
    expect(again.body).toEqual(first.body);
    expect(again.headers.get('location')).toBe(first.headers.get('location'));
    expect(first.headers.get('idempotency-replayed')).toBeNull();
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    expect(await countInstances()).toBe(before + 1);
  });

  it('does not mind the order of the members of the body', async () => {
    const first = await order('order', { gpu: 'RTX 4090', maxPriceUsdPerHour: '0.60' });
    const again = await order('order', { maxPriceUsdPerHour: '0.60', gpu: 'RTX 4090' });
    expect(again.body).toEqual(first.body);
  });

  it('with another body is a conflict', async () => {
    await order('b');
    const reply = await order('b', { ...ORDER, diskGib: 50 });
    expect({ status: reply.status, code: reply.body.code }).toEqual({ status: 409, code: 'idempotency_key_reused' });
  });

  it('used by many at once has one effect, and all get the same answer', async () => {
    const before = await countInstances();
    const replies = await Promise.all(Array.from({ length: 8 }, () => order('c')));
    expect(new Set(replies.map((reply) => reply.status))).toEqual(new Set([202]));
    expect(new Set(replies.map((reply) => reply.body.operation.id)).size).toBe(1);
    expect(await countInstances()).toBe(before + 1);
  });

  it('of a refused request is free again', async () => {
    const refused = await order('d', { ...ORDER, count: 100 });
    expect(refused.status).toBe(507);
    expect((await order('d')).status).toBe(202);
  });

  it('means something else on another route and for another caller', async () => {
    const first = await order('e');
    const { id } = first.body.instances[0];
    const destroyed = await server.call('DELETE', `/api/v1/instances/${id}`, { headers: { 'idempotency-key': 'e' } });
    expect(destroyed.status).toBe(202);
    const { key } = await server.makeKey('operator');
    const others = await order('e', ORDER, key);
    expect(others.status).toBe(202);
    expect(others.body.operation.id).not.toBe(first.body.operation.id);
  });

  it('with another id in the path is a conflict', async () => {
    const made = [await order('f1'), await order('f2')].map((reply) => reply.body.instances[0].id as string);
    const headers = { 'idempotency-key': 'f' };
    expect((await server.call('DELETE', `/api/v1/instances/${made[0]}`, { headers })).status).toBe(202);
    expect((await server.call('DELETE', `/api/v1/instances/${made[1]}`, { headers })).status).toBe(409);
    expect((await server.call('DELETE', `/api/v1/instances/${made[0]}/destroy`, { headers })).status).toBe(202);
  });

  it('is forgotten after 24 hours', async () => {
    const first = await order('g');
    await server.database.kysely
      .updateTable('idempotency_keys')
      .set({ created_at: sql`now() - interval '25 hours'` })
      .where('key', '=', 'g')
      .execute();
    const later = await order('g', { ...ORDER, diskGib: 60 });
    expect(later.status).toBe(202);
    expect(later.body.operation.id).not.toBe(first.body.operation.id);
    expect((await order('g', { ...ORDER, diskGib: 60 })).body).toEqual(later.body);
  });

  it('is not spent by a dry run', async () => {
    expect((await order('h', { ...ORDER, dryRun: true })).status).toBe(200);
    expect((await order('h')).status).toBe(202);
  });
});
