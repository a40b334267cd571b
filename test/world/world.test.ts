/** A slice of `npm run test:world`: some hours of it for two seeds; see there for how to run a seed again. */
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { openVirtualServer, type VirtualServer } from '../support/virtual-database.ts';
import { runWorld } from './world.ts';

const HOURS = 16;
const DEEDS = 12;
const SEEDS = [2, 3];

let server: VirtualServer;
beforeAll(async () => {
  server = await openVirtualServer(inject('testServerUrl'));
});
afterAll(async () => {
  await server?.close();
});

describe('some hours of the world', () => {
  it.concurrent.each(SEEDS)('break no promise (seed %i)', async (seed) => {
    const { problems, evidence, ready } = await runWorld({ seed, server, hours: HOURS, deeds: DEEDS });
    const again = `again: npm run test:world -- --seeds 1 --seed ${seed} --hours ${HOURS} --deeds ${DEEDS} --trace`;
    expect(problems, [again, ...evidence].join('\n')).toEqual([]);
    expect(ready, 'the hours reach what they should').toBeGreaterThan(0);
  });
});
