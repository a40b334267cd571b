/** A slice of the kills of cloud stacks (`npm run test:cloud-crash` runs more): SIGKILL in the middle, the next update, nothing left or doubled. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NEVER, openCloudCrashLab, QUIET_HOOKS, type CloudCrashLab, type CrashKind } from '../support/cloud-crash.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

let test: TestDatabase;
let lab: CloudCrashLab;
beforeAll(async () => {
  test = await createTestDatabase();
  lab = await openCloudCrashLab(test.url);
});
afterAll(async () => {
  await lab.close();
  await test.drop();
});

const SLICE: [kind: CrashKind, seed: number][] = [
  ['eks', 16],
  ['snapshots', 15],
];

describe('a stack whose engine is killed in the middle', () => {
  let pending = 0;
  it.each(SLICE)(
    '%s (seed %i) has everything once after the next up, and nothing after a destroy',
    async (kind, seed) => {
      const report = await lab.run(kind, seed);
      expect(report.problems).toEqual([]);
      expect(report.kills).toBeGreaterThan(0);
      pending += report.found + report.absent;
    },
  );

  it('was in the middle of creates', () => {
    expect(pending).toBeGreaterThan(0);
  });
});

describe('a stack that its owner let go of', () => {
  it('is destroyed with its data and keys, without an up that says so first', async () => {
    const config = { buckets: [{ name: 'main', region: 'eu-west-1' }] };
    const wanted = lab.request('kept', 'snapshots', config, { protect: true });
    expect((await lab.runner.up(wanted, QUIET_HOOKS, NEVER)).isOk).toBe(true);
    expect((await lab.runner.destroy(wanted, QUIET_HOOKS, NEVER)).isOk).toBe(false);
    expect(lab.clouds.resources('Bucket')).toHaveLength(1);
    expect((await lab.runner.destroy({ ...wanted, unprotect: true }, QUIET_HOOKS, NEVER)).isOk).toBe(true);
    expect(lab.clouds.state().resources).toEqual([]);
  });
});

describe('a look-up that fails', () => {
  it('begins no update and assumes nothing; the next one that succeeds goes on', async () => {
    const wanted = lab.request('trouble', 'standby', {
      project: 'a-project',
      zone: 'europe-west4-a',
      state: 'stopped',
    });
    lab.clouds.fault({ kind: 'hangs', operation: 'create', type: 'Network', times: 1 });
    const kill = new AbortController();
    const watch = setInterval(() => lab.clouds.resources('Network').length > 0 && kill.abort(), 5);
    await lab.runner.up(wanted, QUIET_HOOKS, { ...NEVER, kill: kill.signal });
    clearInterval(watch);
    lab.clouds.finish();
    const { id } = lab.clouds.fault({ kind: 'access_denied', operation: 'read', type: 'Network' });
    await expect(lab.runner.up(wanted, QUIET_HOOKS, NEVER)).rejects.toMatchObject({
      name: 'ProviderError',
      message: expect.stringMatching(/cannot be looked up: .*Network/),
    });
    const pending = (await lab.runner.readState('trouble'))?.pendingCreates.map(({ name }) => name);
    expect(pending).toContain('train-network');
    lab.clouds.removeFault(id);
    expect((await lab.runner.up(wanted, QUIET_HOOKS, NEVER)).isOk).toBe(true);
    expect(lab.clouds.resources('Network')).toHaveLength(1);
    expect((await lab.runner.destroy(wanted, QUIET_HOOKS, NEVER)).isOk).toBe(true);
    expect(lab.clouds.state().resources).toEqual([]);
  });
});

/** As the real one where the interrupt comes just before its end: the update ends, and the process does not. */
async function makeStubborn(path: string, folder: string): Promise<string> {
  const script = join(folder, 'pulumi');
  const lines = ['#!/bin/sh', "trap '' INT", `"${path}" "$@"`, 'code=$?', '[ "$1" = up ] && sleep 600', 'exit $code'];
  await writeFile(script, lines.join('\n'), { mode: 0o755 });
  return script;
}

describe('a canceled update whose engine has nothing under way and does not end', () => {
  it('is ended without waiting for it, and all that was made is in the state', { timeout: 40_000 }, async () => {
    const stubborn = await openCloudCrashLab(test.url, { wrapEngine: makeStubborn, idleGraceMs: 500 });
    try {
      const config = { buckets: [{ name: 'main', region: 'eu-west-1' }] };
      const wanted = stubborn.request('stubborn', 'snapshots', config);
      const cancel = new AbortController();
      const watch = setInterval(() => stubborn.clouds.resources('Bucket').length > 0 && cancel.abort(), 5);
      const outcome = await stubborn.runner.up(wanted, QUIET_HOOKS, { ...NEVER, cancel: cancel.signal });
      clearInterval(watch);
      expect(outcome.isOk).toBe(false);
      const state = await stubborn.backend.readState('stubborn');
      expect(state?.pendingCreates ?? []).toEqual([]);
      const ids = state?.resources.map(({ id }) => id);
      for (const { id } of stubborn.clouds.state().resources) expect(ids).toContain(id);
      expect((await stubborn.runner.destroy(wanted, QUIET_HOOKS, NEVER)).isOk).toBe(true);
      expect(stubborn.clouds.state().resources).toEqual([]);
    } finally {
      await stubborn.close();
    }
  });
});
