/** A slice of `npm run test:failover-world`: an hour of it for two seeds; see there for how to run a seed again. */
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { openVirtualServer, type VirtualServer } from '../support/virtual-database.ts';
import { runFailoverWorld } from './failover-world.ts';

const HOURS = 1;
const DEEDS = 3;
const SEEDS = [2, 6];

let server: VirtualServer;
beforeAll(async () => {
  server = await openVirtualServer(inject('testServerUrl'));
});
afterAll(async () => {
  await server?.close();
});

describe('an hour of the failover world', { timeout: 300_000 }, () => {
  it.concurrent.each(SEEDS)('breaks no promise (seed %i)', async (seed) => {
    const { problems, evidence, snapshots } = await runFailoverWorld({ seed, server, hours: HOURS, deeds: DEEDS });
    const again = `again: npm run test:failover-world -- --seeds 1 --seed ${seed} --hours ${HOURS} --deeds ${DEEDS} --trace`;
    expect(problems, [again, ...evidence].join('\n')).toEqual([]);
    expect(snapshots, 'the hour reaches what it should').toBeGreaterThan(0);
  });
});
