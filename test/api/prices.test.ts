import { get, type IncomingMessage } from 'node:http';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { rememberGpus } from '../../db/known-gpus.ts';
import { recordFloors } from '../../db/prices.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { listOffers, OFFER, startApiServer, type ApiServer } from '../support/api-server.ts';

const NOON = Date.parse('2026-05-01T12:00:00Z');
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

let server: ApiServer;
const open = new Set<IncomingMessage>();
beforeAll(async () => {
  server = await startApiServer({ heartbeatMs: 50 });
  await listOffers(server, [{}, { gpu: 'H100 SXM' }]);
  await rememberGpus(server.database.kysely);
  await floors('vastai', [400_000n], 0);
  await floors('vastai', [300_000n], 10 * MINUTE);
  await floors('runpod', [500_000n], 10 * MINUTE, 100_000n);
  await floors('vastai', [200_000n], 70 * MINUTE);
  await floors('vastai', [100_000n], 25 * HOUR);
});
afterAll(async () => {
  for (const response of open) response.destroy();
  await server?.stop();
});

/** A believable listing of single RTX 4090s at these prices. */
function floors(provider: ProviderName, prices: bigint[], atMs: number, floor: bigint | null = null): Promise<number> {
  const offers = prices.map((priceMicroUsdPerHour) => ({
    ...OFFER,
    provider,
    priceMicroUsdPerHour,
    floorMicroUsdPerHour: floor,
    diskMicroUsdPerGibHour: 0n,
  }));
  return recordFloors(server.database.kysely, provider, offers, new Date(NOON + atMs));
}

const history = (query: string) => server.call('GET', `/api/v1/prices/history?gpu=rtx_4090&${query}`);
const RANGE = 'from=2026-05-01T00:00:00Z&to=2026-05-03T00:00:00Z';

describe('the history of prices', () => {
  it('by hour is the mean, low and high of the believable listings of the hour', async () => {
    const { status, body } = await history(`${RANGE}&provider=vastai`);
    expect(status).toBe(200);
    expect(body.items).toMatchObject([
      {
        at: '2026-05-01T12:00:00.000Z',
        provider: 'vastai',
        gpu: 'RTX 4090',
        interruptible: false,
        floorMicroUsdPerGpuHour: 350_000,
        lowMicroUsdPerGpuHour: 300_000,
        highMicroUsdPerGpuHour: 400_000,
        samples: 2,
      },
      { at: '2026-05-01T13:00:00.000Z', floorMicroUsdPerGpuHour: 200_000, samples: 1 },
      { at: '2026-05-02T13:00:00.000Z', floorMicroUsdPerGpuHour: 100_000, samples: 1 },
    ]);
  });

  it('by day weighs every listing alike', async () => {
    const { body } = await history(`${RANGE}&provider=vastai&bucket=day`);
    expect(body.items).toMatchObject([
      { at: '2026-05-01T00:00:00.000Z', floorMicroUsdPerGpuHour: 300_000, samples: 3 },
      { at: '2026-05-02T00:00:00.000Z', floorMicroUsdPerGpuHour: 100_000, samples: 1 },
    ]);
  });

  it('by change holds each change within the time, over pages, and of one kind of rental if asked', async () => {
    const seen: (number | null)[] = [];
    let cursor = '';
    do {
      const { body } = await history(
        `from=2026-05-01T12:00:00Z&to=2026-05-01T13:10:00Z&bucket=change&limit=1${cursor}`,
      );
      seen.push(...body.items.map((item: { floorMicroUsdPerGpuHour: number | null }) => item.floorMicroUsdPerGpuHour));
      cursor = body.nextCursor === null ? '' : `&cursor=${body.nextCursor}`;
    } while (cursor !== '');
    expect(seen).toEqual([400_000, 500_000, 100_000, 300_000]);
    const { body } = await history(`${RANGE}&bucket=change&interruptible=true`);
    expect(body.items).toMatchObject([{ provider: 'runpod', interruptible: true, floorMicroUsdPerGpuHour: 100_000 }]);
  });

  it('refuses a time that ends before it begins, a cursor of another bucket and a GPU that nobody knows', async () => {
    const backwards = await history('from=2026-05-03T00:00:00Z&to=2026-05-01T00:00:00Z');
    expect([backwards.status, backwards.body.errors[0].path]).toEqual([422, 'from']);
    const { nextCursor } = (await history(`${RANGE}&limit=1`)).body;
    const other = await history(`${RANGE}&bucket=day&cursor=${nextCursor}`);
    expect([other.status, other.body.errors[0].path]).toEqual([422, 'cursor']);
    expect((await server.call('GET', '/api/v1/prices/history?gpu=RTX%204091')).body.errors[0].path).toBe('gpu');
    expect((await server.call('GET', '/api/v1/prices/history')).body.errors[0].path).toBe('gpu');
  });
});

interface Received {
  id: string;
  floor: number | null;
  previous: number | null;
}

describe('the stream of prices', () => {
  it('tells each change from now, and resumes after Last-Event-ID without loss or repetition', async () => {
    const first = await listen('');
    await floors('vastai', [110_000n], 26 * HOUR);
    await floors('vastai', [120_000n], 26 * HOUR + MINUTE);
    await first.until(2);
    expect(first.received.map(({ floor, previous }) => [previous, floor])).toEqual([
      [100_000, 110_000],
      [110_000, 120_000],
    ]);
    first.response.destroy();
    await floors('vastai', [130_000n], 26 * HOUR + 2 * MINUTE);
    const resumed = await listen('', first.received[0]?.id);
    await floors('vastai', [], 26 * HOUR + 3 * MINUTE);
    await resumed.until(3);
    expect(resumed.received.map(({ floor }) => floor)).toEqual([120_000, 130_000, null]);
  });

  it('holds only what was asked for', async () => {
    const stream = await listen('?provider=runpod&interruptible=true&gpu=RTX%204090');
    await floors('vastai', [90_000n], 27 * HOUR);
    await floors('runpod', [510_000n], 27 * HOUR, 95_000n);
    await stream.until(1);
    expect(stream.received.map(({ floor }) => floor)).toEqual([95_000]);
  });

  it('does not pass over a change that is committed after a later one', async () => {
    const stream = await listen('');
    const hold = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    const slow = server.database.kysely.transaction().execute(async (tx) => {
      await tx
        .insertInto('price_changes')
        .values({
          provider: 'lambda',
          gpu_key: 'h100 sxm',
          gpu: 'H100 SXM',
          interruptible: false,
          floor_micro_usd_per_gpu_hour: 1n,
          previous_micro_usd_per_gpu_hour: null,
          at: new Date(NOON),
        })
        .execute();
      begun.resolve();
      await hold.promise;
    });
    await begun.promise;
    await floors('runpod', [520_000n], 28 * HOUR, 95_000n);
    hold.resolve();
    await slow;
    await stream.until(2);
    expect(stream.received.map(({ floor }) => floor)).toEqual([1, 520_000]);
  });

  it('from now tells nothing that was committed before, also while an older transaction runs', async () => {
    const db = server.database.kysely;
    const hold = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    const old = db.transaction().execute(async (tx) => {
      await sql`select pg_current_xact_id()`.execute(tx);
      begun.resolve();
      await hold.promise;
    });
    await begun.promise;
    await floors('vastai', [140_000n], 29 * HOUR);
    const stream = await listen('?provider=vastai');
    await floors('vastai', [150_000n], 30 * HOUR);
    hold.resolve();
    await old;
    await stream.until(1);
    expect(stream.received.map(({ floor }) => floor)).toEqual([150_000]);
  });

  it('refuses an id that it never gave', async () => {
    const reply = await server.call('GET', '/api/v1/prices/events', { headers: { 'last-event-id': 'op_1' } });
    expect(reply.status).toBe(400);
  });
});

function listen(query: string, lastEventId?: string) {
  return new Promise<{ response: IncomingMessage; received: Received[]; until(count: number): Promise<void> }>(
    (resolve, reject) => {
      const headers = {
        authorization: `Bearer ${server.adminKey}`,
        ...(lastEventId === undefined ? {} : { 'last-event-id': lastEventId }),
      };
      get(`${server.url}/api/v1/prices/events${query}`, { headers }, (response) => {
        open.add(response);
        const received: Received[] = [];
        let text = '';
        let notify = () => {};
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
          const blocks = text.split('\n\n');
          text = blocks.pop() ?? '';
          for (const block of blocks) {
            const match = /^id: (.*)\nevent: price\ndata: (.*)$/.exec(block);
            if (!match) continue;
            const data = JSON.parse(match[2] as string);
            received.push({
              id: match[1] as string,
              floor: data.floorMicroUsdPerGpuHour,
              previous: data.previousMicroUsdPerGpuHour,
            });
          }
          notify();
        });
        const until = (count: number) =>
          new Promise<void>((done, fail) => {
            const timer = setTimeout(() => fail(new Error(`received only ${JSON.stringify(received)}`)), 10_000);
            notify = () => {
              if (received.length < count) return;
              clearTimeout(timer);
              done();
            };
            notify();
          });
        resolve({ response, received, until });
      }).on('error', reject);
    },
  );
}
