/** A slice of `npm run test:world`: two days of it for some seeds; see there for how to run a seed again. */
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { openVirtualServer, type VirtualServer } from '../support/virtual-database.ts';
import { runWorld } from './world.ts';

const HOURS = 48;
const DEEDS = 24;

let server: VirtualServer;
beforeAll(async () => {
  server = await openVirtualServer(inject('testServerUrl'));
});
afterAll(async () => {
  await server?.close();
});

describe('two days of the world', () => {
  it.each([2, 3, 10])('break no promise (seed %i)', async (seed) => {
    const report = await runWorld({ seed, server, hours: HOURS, deeds: DEEDS });
    const again = `again: npm run test:world -- --seeds 1 --seed ${seed} --hours ${HOURS} --deeds ${DEEDS} --trace`;
    expect(report.problems, again).toEqual([]);
    expect(report.ready, 'the week reaches what it should').toBeGreaterThan(0);
  });
});
