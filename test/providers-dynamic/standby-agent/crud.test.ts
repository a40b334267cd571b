import { describe, expect, it } from 'vitest';
import type { HostRuntime, StandbyJoin } from '../../../providers-dynamic/host-runtime.ts';
import { createStandbyAgentCrud } from '../../../providers-dynamic/standby-agent/crud.ts';
import { createStandaloneHostRuntime } from '../../../providers-dynamic/standalone-host-runtime.ts';
import { UNKNOWN_VALUE } from '../../../providers-dynamic/dynamic-crud.ts';

const INPUTS = { disk: 'disks/data', controlPlaneUrl: 'https://muster.example' };

function crudOf(joins: (StandbyJoin | null)[]) {
  const runtime: HostRuntime = {
    ...createStandaloneHostRuntime({}),
    joinStandby: () => Promise.resolve(joins.shift() ?? null),
  };
  return createStandbyAgentCrud(runtime);
}

describe("the right of a standby's agent to join", () => {
  it('is asked for once: what follows keeps the token', async () => {
    const crud = crudOf([{ nodeId: 'nod_a', token: 'first' }]);
    const { id, outs } = await crud.create(INPUTS);
    expect(id).toBe('nod_a');
    expect(outs).toMatchObject({ ...INPUTS, nodeId: 'nod_a', token: 'first' });
    const moved = { ...INPUTS, controlPlaneUrl: 'https://elsewhere.example' };
    expect(await crud.diff(id, outs, moved)).toMatchObject({ changes: true, replaces: [] });
    expect((await crud.update(id, outs, moved)).outs).toMatchObject({ ...moved, token: 'first' });
    expect(await crud.diff(id, outs, INPUTS)).toMatchObject({ changes: false });
  });

  it('is another one on another disk, and the same while the disk is not known', async () => {
    const crud = crudOf([]);
    const olds = { ...INPUTS, nodeId: 'nod_a', token: 'first' };
    expect(await crud.diff('nod_a', olds, { ...INPUTS, disk: 'disks/other' })).toMatchObject({ replaces: ['disk'] });
    expect(await crud.diff('nod_a', olds, { ...INPUTS, disk: UNKNOWN_VALUE })).toMatchObject({ changes: false });
  });

  it('is refused where no standby was made for an instance', async () => {
    await expect(crudOf([null]).create(INPUTS)).rejects.toThrow('POST /standby');
    const { failures } = await crudOf([]).check({}, { disk: '' });
    expect(failures.map(({ property }) => property)).toEqual(['disk', 'controlPlaneUrl']);
  });
});
