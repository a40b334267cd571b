import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ATTEMPT_STATUSES } from '../../domain/attempt.ts';
import type { ObservedInstance } from '../../domain/observed-instance.ts';
import {
  diffFleet,
  ORPHAN_GRACE_MS,
  shouldDestroyOrphan,
  type FleetInput,
  type Finding,
  type RecordedAttempt,
} from '../../domain/reconcile.ts';
import { NOW } from './provisioning/market.ts';

const GRACE = 120_000;

/** "ours:a1" is the signed label of a1; everything else is foreign. */
const readLabel: FleetInput['readLabel'] = (label) =>
  label?.startsWith('ours:') === true ? { owner: 'ours', attemptId: label.slice(5) } : { owner: 'foreign' };

function machine(id: string, label: string | null, over: Partial<ObservedInstance> = {}): ObservedInstance {
  return {
    provider: 'vastai',
    providerInstanceId: id,
    label,
    status: 'running',
    statusDetail: null,
    machineId: `host-${id}`,
    gpu: 'RTX 4090',
    gpuCount: 1,
    gpuMemoryGib: 24,
    priceMicroUsdPerHour: 300_000n,
    interruptible: false,
    interrupted: false,
    ssh: null,
    image: null,
    region: null,
    startedAt: null,
    ...over,
  };
}

function recorded(attemptId: string, over: Partial<RecordedAttempt> = {}): RecordedAttempt {
  return {
    attemptId,
    instanceId: `ins-${attemptId}`,
    label: `ours:${attemptId}`,
    status: 'ready',
    providerInstanceId: `p-${attemptId}`,
    machineId: `host-p-${attemptId}`,
    gpu: 'RTX 4090',
    gpuCount: 1,
    priceMicroUsdPerHour: 300_000n,
    image: 'example/image:1',
    purchasedAt: NOW - 3_600_000,
    bootDeadline: null,
    statusSince: NOW - 60_000,
    missingSince: null,
    missingCount: 0,
    heardAt: null,
    ...over,
  };
}

function diff(over: Partial<FleetInput>) {
  return diffFleet({
    provider: 'vastai',
    recorded: [],
    observed: [],
    readLabel,
    graceMs: GRACE,
    previousFindings: [],
    now: NOW,
    ...over,
  });
}

const classes = (findings: Finding[]) => findings.map((one) => one.class);

describe('the fleet', () => {
  it('as it was bought gives no findings', () => {
    const result = diff({ recorded: [recorded('a1')], observed: [machine('p-a1', 'ours:a1')] });
    expect(result).toMatchObject({ findings: [], updates: [{ kind: 'observed', attemptId: 'a1' }], foreignCount: 0 });
  });

  it('has foreign machines counted, whatever they are called', () => {
    const observed = [machine('1', null), machine('2', 'my box'), machine('3', 'muster-other-aaaa-bbbb')];
    expect(diff({ observed })).toEqual({ findings: [], updates: [], foreignCount: 3 });
  });
});

describe('an orphan', () => {
  it('is a machine with our signed label and no live row', () => {
    const observed = [machine('1', 'ours:unknown'), machine('2', 'ours:a1')];
    const { findings } = diff({ observed, recorded: [recorded('a1', { status: 'gone', providerInstanceId: '9' })] });
    expect(findings).toMatchObject([
      { class: 'orphan', providerInstanceId: '1', attemptId: 'unknown', sightings: 1, firstSeenAt: NOW },
      { class: 'orphan', providerInstanceId: '2', attemptId: 'a1', priceMicroUsdPerHour: 300_000n },
    ]);
  });

  it('is one too where the attempt is gone under the very id', () => {
    const gone = recorded('a1', { status: 'gone', providerInstanceId: '1' });
    expect(classes(diff({ observed: [machine('1', 'ours:a1')], recorded: [gone] }).findings)).toEqual(['orphan']);
  });

  it.each(['reserved', 'buying'] as const)('is not a machine whose attempt is %s', (status) => {
    const attempt = recorded('a1', { status, providerInstanceId: null, purchasedAt: null });
    expect(diff({ observed: [machine('1', 'ours:a1')], recorded: [attempt] }).findings).toEqual([]);
  });

  it('is not a machine that is being destroyed', () => {
    const attempt = recorded('a1', { status: 'destroying' });
    const observed = [machine('p-a1', 'ours:a1'), machine('second', 'ours:a1')];
    expect(diff({ observed, recorded: [attempt] }).findings).toEqual([]);
  });

  it('keeps its first sighting and counts the later ones', () => {
    const observed = [machine('1', 'ours:x')];
    const first = diff({ observed }).findings;
    const second = diff({ observed, previousFindings: first, now: NOW + 300_000 }).findings;
    expect(second).toMatchObject([{ sightings: 2, firstSeenAt: NOW }]);
  });

  it('is destroyed after two listings and a grace, by policy only', () => {
    const finding = {
      class: 'orphan' as const,
      providerInstanceId: '1',
      sightings: 2,
      firstSeenAt: NOW - ORPHAN_GRACE_MS,
    };
    expect(shouldDestroyOrphan(finding, 'destroy', NOW)).toBe(true);
    expect(shouldDestroyOrphan(finding, 'alert', NOW)).toBe(false);
    expect(shouldDestroyOrphan(finding, 'destroy', NOW - 1)).toBe(false);
    expect(shouldDestroyOrphan({ ...finding, sightings: 1 }, 'destroy', NOW)).toBe(false);
    expect(shouldDestroyOrphan({ ...finding, class: 'duplicate' }, 'destroy', NOW)).toBe(true);
    for (const kind of ['ghost', 'stuck', 'mismatch'] as const) {
      expect(shouldDestroyOrphan({ ...finding, class: kind }, 'destroy', NOW)).toBe(false);
    }
  });
});

describe('a ghost', () => {
  const live = recorded('a1');

  it('is not lost on one listing, however long ago it was bought', () => {
    const { findings, updates } = diff({ recorded: [live] });
    expect(classes(findings)).toEqual(['ghost']);
    expect(updates).toEqual([{ kind: 'missing', attemptId: 'a1', missingSince: NOW, missingCount: 1 }]);
  });

  it('is lost after the second listing and the grace', () => {
    const missing = { missingSince: NOW - GRACE, missingCount: 1 };
    const lostOf = (over: Partial<RecordedAttempt>) =>
      diff({ recorded: [{ ...live, ...over }] }).updates.filter((update) => update.kind === 'lost');
    expect(lostOf(missing)).toHaveLength(1);
    expect(lostOf({ ...missing, missingSince: NOW - GRACE + 1 })).toEqual([]);
    expect(lostOf({ ...missing, missingCount: 0 })).toEqual([]);
  });

  it('is not lost while its agent reports, and the finding says so', () => {
    const missing = { missingSince: NOW - GRACE, missingCount: 5 };
    const told = diff({ recorded: [{ ...live, ...missing, heardAt: NOW - 10_000 }] });
    expect(told.updates).toMatchObject([{ kind: 'missing' }]);
    expect(told.findings).toMatchObject([{ class: 'ghost', detail: expect.stringContaining('its agent reports') }]);
    const silent = diff({ recorded: [{ ...live, ...missing, heardAt: NOW - 90_000 }] });
    expect(silent.updates).toMatchObject([{ kind: 'missing' }, { kind: 'lost' }]);
  });

  it('is not a machine that was bought a moment ago', () => {
    expect(diff({ recorded: [{ ...live, status: 'bought', purchasedAt: NOW - 5_000 }] })).toMatchObject({
      findings: [],
      updates: [],
    });
  });

  it('is over once the machine is listed again', () => {
    const back = diff({
      recorded: [{ ...live, missingSince: NOW - 1, missingCount: 1 }],
      observed: [machine('p-a1', 'ours:a1')],
    });
    expect(back).toMatchObject({ findings: [], updates: [{ kind: 'observed' }] });
  });
});

describe('a duplicate', () => {
  it('is the machine that is not the recorded one', () => {
    const observed = [machine('p-a1', 'ours:a1'), machine('second', 'ours:a1')];
    expect(diff({ recorded: [recorded('a1')], observed }).findings).toMatchObject([
      { class: 'duplicate', providerInstanceId: 'second', instanceId: 'ins-a1' },
    ]);
  });

  it('is not a machine that may be the recorded one under another id', () => {
    const { findings } = diff({ recorded: [recorded('a1')], observed: [machine('second', 'ours:a1')] });
    expect(classes(findings).sort()).toEqual(['ghost', 'mismatch']);
  });
});

describe('a mismatch', () => {
  it.each([
    ['host', { machineId: 'elsewhere' }],
    ['GPU', { gpu: 'RTX 3090' }],
    ['number of GPUs', { gpuCount: 2 }],
    ['price', { priceMicroUsdPerHour: 304_000n }],
    ['label', { label: 'renamed' }],
  ])('is another %s than was bought', (_, over) => {
    const result = diff({ recorded: [recorded('a1')], observed: [machine('p-a1', 'ours:a1', over)] });
    expect(classes(result.findings)).toEqual(['mismatch']);
    expect(result.foreignCount).toBe(0);
  });

  it.each([
    ['the driver spells the GPU', { gpu: 'NVIDIA GeForce RTX 4090' }],
    ['the price is rounded', { priceMicroUsdPerHour: 300_001n }],
    ['the vendor does not tell', { gpu: null, gpuCount: null, machineId: null, priceMicroUsdPerHour: null }],
    ['a stopped machine costs less', { status: 'stopped' as const, priceMicroUsdPerHour: 10_000n }],
  ])('is none where %s', (_, over) => {
    expect(diff({ recorded: [recorded('a1')], observed: [machine('p-a1', 'ours:a1', over)] }).findings).toEqual([]);
  });
});

describe('a stuck attempt', () => {
  it.each([
    ['buying', { providerInstanceId: null }, 15],
    ['destroying', {}, 10],
  ] as const)('is one that is %s for too long', (status, over, minutes) => {
    const since = (ms: number) =>
      diff({ recorded: [recorded('a1', { ...over, status, statusSince: NOW - ms })] }).findings;
    expect(since(minutes * 60_000)).toEqual([]);
    expect(classes(since(minutes * 60_000 + 1))).toEqual(['stuck']);
  });

  it('is one that boots past its deadline and a grace', () => {
    const attempt = recorded('a1', { status: 'bought', bootDeadline: NOW - GRACE });
    const observed = [machine('p-a1', 'ours:a1')];
    expect(diff({ recorded: [attempt], observed }).findings).toEqual([]);
    expect(classes(diff({ recorded: [attempt], observed, now: NOW + 1 }).findings)).toEqual(['stuck']);
  });

  it('is never one that is ready', () => {
    expect(
      diff({ recorded: [recorded('a1', { statusSince: 0 })], observed: [machine('p-a1', 'ours:a1')] }).findings,
    ).toEqual([]);
  });
});

describe('any fleet', () => {
  const ids = fc.constantFrom('a1', 'a2', 'a3', 'a4', 'a5');
  const anyRecorded = fc.uniqueArray(
    fc.record({
      attemptId: ids,
      status: fc.constantFrom(...ATTEMPT_STATUSES),
      isKnown: fc.boolean(),
      missingCount: fc.nat({ max: 3 }),
    }),
    { selector: (one) => one.attemptId },
  );
  const anyObserved = fc.uniqueArray(
    fc.record({
      id: fc.oneof(
        ids.map((id) => `p-${id}`),
        fc.constantFrom('x1', 'x2', 'x3'),
      ),
      label: fc.option(
        fc.oneof(
          ids.map((id) => `ours:${id}`),
          fc.constantFrom('ours:unknown', 'theirs', ''),
        ),
      ),
    }),
    { selector: (one) => one.id },
  );
  const anyFleet = fc.record({ recorded: anyRecorded, observed: anyObserved }).map((fleet) => ({
    recorded: fleet.recorded.map((one) =>
      recorded(one.attemptId, {
        status: one.status,
        providerInstanceId: one.isKnown ? `p-${one.attemptId}` : null,
        missingCount: one.missingCount,
        missingSince: one.missingCount === 0 ? null : NOW - 10 * GRACE,
      }),
    ),
    observed: fleet.observed.map((one) => machine(one.id, one.label)),
  }));

  it('never has a foreign machine destroyed', () => {
    fc.assert(
      fc.property(anyFleet, (fleet) => {
        const foreign = new Set(
          fleet.observed.filter((one) => readLabel(one.label).owner === 'foreign').map((one) => one.providerInstanceId),
        );
        for (const finding of diff(fleet).findings) {
          if (!foreign.has(finding.providerInstanceId ?? '')) continue;
          const ripe = { ...finding, sightings: 9, firstSeenAt: 0 };
          expect(shouldDestroyOrphan(ripe, 'destroy', NOW)).toBe(false);
        }
      }),
    );
  });

  it('has every foreign machine that no row records counted and in no finding or update', () => {
    fc.assert(
      fc.property(anyFleet, (fleet) => {
        const result = diff(fleet);
        const known = new Set(
          fleet.recorded.filter((one) => one.status !== 'gone').map((one) => one.providerInstanceId),
        );
        const foreign = fleet.observed.filter(
          (one) => readLabel(one.label).owner === 'foreign' && !known.has(one.providerInstanceId),
        );
        expect(result.foreignCount).toBe(foreign.length);
        const named = new Set(result.findings.map((one) => one.providerInstanceId));
        expect(foreign.some((one) => named.has(one.providerInstanceId))).toBe(false);
      }),
    );
  });

  it('has every machine with our label and no live row found as an orphan', () => {
    fc.assert(
      fc.property(anyFleet, (fleet) => {
        const live = fleet.recorded.filter((one) => one.status !== 'gone');
        const expected = fleet.observed.filter((one) => {
          const label = readLabel(one.label);
          const isRecorded = live.some((row) => row.providerInstanceId === one.providerInstanceId);
          return label.owner === 'ours' && !isRecorded && !live.some((row) => row.attemptId === label.attemptId);
        });
        const orphans = diff(fleet).findings.filter((one) => one.class === 'orphan');
        expect(orphans.map((one) => one.providerInstanceId)).toEqual(expected.map((one) => one.providerInstanceId));
      }),
    );
  });

  it('has nothing lost that one listing alone lacks, nor anything that is listed', () => {
    fc.assert(
      fc.property(anyFleet, (fleet) => {
        const listed = new Set(fleet.observed.map((one) => one.providerInstanceId));
        for (const update of diff(fleet).updates) {
          if (update.kind !== 'lost') continue;
          const row = fleet.recorded.find((one) => one.attemptId === update.attemptId) as RecordedAttempt;
          expect(row.missingCount).toBeGreaterThan(0);
          expect(listed.has(row.providerInstanceId ?? '')).toBe(false);
          expect(['bought', 'ready']).toContain(row.status);
        }
      }),
    );
  });
});
