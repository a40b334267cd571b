import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listOffers, startApiServer, type ApiServer } from '../support/api-server.ts';
import { recordReadyInstance } from '../support/sleeping-record.ts';

let server: ApiServer;
beforeAll(async () => {
  server = await startApiServer();
}, 60_000);
afterAll(() => server?.stop());

async function scrape(): Promise<string[]> {
  const { body } = await server.call<string>('GET', '/metrics');
  return body.split('\n').filter((line) => /^muster_boots?(_seconds)?\{/.test(line));
}

describe('metrics of boots', () => {
  it('are of the scrape that asks, all of them', async () => {
    expect(await scrape()).toEqual([]);
    const owner = await server.makeKey('operator');
    await listOffers(server, [{ priceMicroUsdPerHour: 400_000n }]);
    await recordReadyInstance(server, owner, {});
    const lines = await scrape();
    expect(lines.find((line) => line.startsWith('muster_boots{'))?.endsWith(' 1')).toBe(true);
    expect(lines.filter((line) => line.startsWith('muster_boot_seconds{'))).toHaveLength(2);
  });
});
