import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CONTRADICTED_MS,
  isMassSilence,
  judgeFailure,
  lateAfterMs,
  RECONNECT_MS,
  unconfirmedAfterMs,
  type NodeEvidence,
  type NodeJudgement,
  type NodeWatch,
  type ProviderWord,
  type SshWord,
} from '../../domain/failure.ts';

const T0 = 1_800_000_000_000;
const INTERVAL_MS = 10_000;
/** As the check-nodes cron: a look every two seconds, a try of SSH takes at most 2.5 s. */
const TICK_MS = 2_000;
const PROBE_MS = 2_500;
const LISTING_MS = 4_000;
const WORDS: ProviderWord[] = ['running', 'starting', 'stopped', 'failed', 'gone', 'unknown'];
const LIVING: ProviderWord[] = ['running', 'starting', 'unknown'];

/** The world at a moment, in milliseconds since T0. */
interface World {
  /** Beats that arrived, rising. */
  beats: number[];
  provider: (at: number) => ProviderWord;
  ssh: (at: number) => SshWord;
  /** Since when the control plane listens at that moment; null: it does not. @default always */
  listeningSince?: (at: number) => number | null;
  isMassSilence?: boolean;
}

/** Looks as the cron does until `untilMs`; the first death, and all that was judged. */
function watch(world: World, untilMs: number, firstTickMs = 0) {
  let state: NodeWatch | null = null;
  const looks: { at: number; judgement: NodeJudgement }[] = [];
  for (let at = firstTickMs; at <= untilMs;) {
    const heard = world.beats.filter((beat) => beat <= at).at(-1) ?? -INTERVAL_MS;
    const isAsked = at - heard > lateAfterMs(INTERVAL_MS);
    const ssh = isAsked ? world.ssh(at) : 'unknown';
    const endsAt = at + (isAsked ? (ssh === 'silent' ? PROBE_MS : 200) : 0);
    const listening = world.listeningSince === undefined ? -3_600_000 : world.listeningSince(endsAt);
    const evidence: NodeEvidence = {
      heardAt: T0 + (world.beats.filter((beat) => beat <= endsAt).at(-1) ?? -INTERVAL_MS),
      intervalMs: INTERVAL_MS,
      listeningSince: listening === null ? null : T0 + listening,
      provider: isAsked ? world.provider(at) : 'unknown',
      ssh,
      isMassSilence: world.isMassSilence ?? false,
      now: T0 + endsAt,
    };
    const judgement = judgeFailure(state, evidence);
    state = judgement.watch;
    looks.push({ at: endsAt, judgement });
    at = TICK_MS * (Math.floor(endsAt / TICK_MS) + 1);
  }
  const death = looks.find(({ judgement }) => judgement.watch.verdict === 'dead');
  return { looks, deadAt: death?.at ?? null };
}

/** Beats every interval from `phase` up to `untilMs`, less those in `outages`. */
function beatsUntil(untilMs: number, phase = 0, outages: readonly (readonly [number, number])[] = []): number[] {
  const beats: number[] = [];
  for (let at = phase; at <= untilMs; at += INTERVAL_MS) {
    const outage = outages.find(([from, to]) => at >= from && at < to);
    // An agent that could not reach us tries again within a second.
    beats.push(outage === undefined ? at : outage[1] + 1_000);
  }
  return [...new Set(beats)].filter((at) => at <= untilMs).sort((a, b) => a - b);
}

describe('a dead machine', () => {
  it('that its provider calls down is found within 20 seconds, whenever in the interval it dies', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 60_000, max: 90_000 }),
        fc.integer({ min: 0, max: INTERVAL_MS - 1 }),
        fc.constantFrom<ProviderWord>('stopped', 'failed', 'gone'),
        fc.boolean(),
        (diesAt, phase, word, hasSsh) => {
          const isDead = (at: number) => at >= diesAt;
          const { deadAt } = watch(
            {
              beats: beatsUntil(diesAt, phase),
              provider: (at) => (isDead(at) ? word : 'running'),
              ssh: (at) => (isDead(at) ? (hasSsh ? 'silent' : 'unknown') : 'authenticated'),
            },
            diesAt + 30_000,
          );
          expect(deadAt).not.toBeNull();
          expect((deadAt as number) - diesAt).toBeGreaterThanOrEqual(0);
          // A slow listing may take what the cron grants it.
          expect((deadAt as number) - diesAt + LISTING_MS - PROBE_MS).toBeLessThanOrEqual(20_000);
        },
      ),
    );
  });

  it.each<[ProviderWord, number]>([
    ['unknown', unconfirmedAfterMs(INTERVAL_MS)],
    ['running', CONTRADICTED_MS],
  ])('of which the provider says %s is dead by silence and SSH after %i ms', (word, neededMs) => {
    const { deadAt } = watch({ beats: beatsUntil(60_000), provider: () => word, ssh: () => 'silent' }, 240_000);
    expect((deadAt as number) - 60_000).toBeGreaterThanOrEqual(neededMs);
    expect((deadAt as number) - 60_000).toBeLessThanOrEqual(neededMs + TICK_MS + PROBE_MS);
  });

  it('stays dead though a source changes its mind, until it is heard of', () => {
    const { looks, deadAt } = watch(
      {
        beats: [...beatsUntil(60_000), 200_000],
        provider: (at) => (at < 100_000 ? 'failed' : 'running'),
        ssh: (at) => (at < 100_000 ? 'silent' : 'authenticated'),
      },
      205_000,
    );
    expect(deadAt).not.toBeNull();
    const after = looks.filter(({ at }) => at > (deadAt as number) && at < 200_000);
    expect(after.every(({ judgement }) => judgement.watch.verdict === 'dead')).toBe(true);
    expect(looks.at(-1)?.judgement.watch.verdict).toBe('alive');
  });
});

describe('one source alone', () => {
  it('is a suspicion with its reason, never death', () => {
    fc.assert(
      fc.property(fc.constantFrom('beats', 'provider', 'ssh'), fc.constantFrom(...WORDS), (source, word) => {
        const isDown = ['stopped', 'failed', 'gone'].includes(word);
        const { looks, deadAt } = watch(
          {
            beats: beatsUntil(source === 'beats' ? 60_000 : 600_000),
            provider: () => (source === 'provider' ? word : 'running'),
            ssh: () => (source === 'ssh' ? 'silent' : 'authenticated'),
          },
          600_000,
        );
        expect(deadAt).toBeNull();
        const suspicions = looks.filter(({ judgement }) => judgement.watch.verdict === 'suspect');
        if (source === 'beats') expect(suspicions.length).toBeGreaterThan(0);
        for (const { judgement } of suspicions) expect(judgement.reasons.join()).not.toBe('');
        if (source === 'provider' && isDown) expect(looks.at(-1)?.judgement.watch.verdict).toBe('alive');
      }),
    );
  });

  it('of the provider is told though heartbeats arrive', () => {
    const { watch: state, reasons } = judgeFailure(null, {
      heardAt: T0 - 3_000,
      intervalMs: INTERVAL_MS,
      listeningSince: T0 - 1_000_000,
      provider: 'failed',
      ssh: 'unknown',
      isMassSilence: false,
      now: T0,
    });
    expect(state.verdict).toBe('suspect');
    expect(reasons).toEqual(['the provider says failed, and its agent reports']);
  });

  it('says how long a silent agent has been silent and that SSH lets us in', () => {
    const { looks } = watch({ beats: [0], provider: () => 'running', ssh: () => 'authenticated' }, 20_000);
    expect(looks.at(-1)?.judgement.reasons).toEqual(['no heartbeat for 20 s', 'SSH lets us in: the machine lives']);
  });
});

describe('what is no death', () => {
  it('an outage of the control plane of any length, with its network away too and agents coming back late', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 20_000, max: 700_000 }),
        fc.integer({ min: 0, max: INTERVAL_MS - 1 }),
        fc.integer({ min: 0, max: RECONNECT_MS - 5_000 }),
        fc.constantFrom(...LIVING),
        fc.boolean(),
        (outageMs, phase, reconnectMs, word, doesCronRun) => {
          const [from, to] = [100_000, 100_000 + outageMs];
          const back = to + reconnectMs;
          const { deadAt } = watch(
            {
              beats: [...beatsUntil(from - 1, phase), ...beatsUntil(back + 120_000, back).filter((at) => at >= back)],
              provider: () => word,
              ssh: (at) => (at >= from && at < to ? 'silent' : 'authenticated'),
              listeningSince: (at) => (at < from ? -3_600_000 : at < to ? null : to),
            },
            back + 100_000,
            doesCronRun ? 0 : to,
          );
          expect(deadAt).toBeNull();
        },
      ),
    );
  });

  it('a jump of the clock, forward or back', () => {
    fc.assert(
      fc.property(fc.integer({ min: -7_200_000, max: 7_200_000 }), fc.constantFrom(...LIVING), (jumpMs, word) => {
        const now = T0 + jumpMs;
        const before = { intervalMs: INTERVAL_MS, provider: word, ssh: 'silent', isMassSilence: false } as const;
        const evidence = { ...before, heardAt: T0, now };
        const state: NodeWatch = {
          verdict: 'alive',
          since: T0 - 60_000,
          isSilent: true,
          failedProbes: 1,
          recoveries: [],
          heardAt: T0,
        };
        // The pulse of before is in the future, or so old that we do not listen; the next one begins anew.
        for (const listeningSince of [jumpMs > 3_000 ? null : T0 - 500_000, now]) {
          const { watch: judged } = judgeFailure(state, { ...evidence, listeningSince });
          if (jumpMs <= unconfirmedAfterMs(INTERVAL_MS) || listeningSince !== T0 - 500_000)
            expect(judged.verdict).not.toBe('dead');
        }
      }),
    );
  });

  it('a flapping network: outages of up to 15 seconds, whether the provider says that it runs or nothing', () => {
    const outages = fc
      .array(fc.tuple(fc.integer({ min: 5_000, max: 60_000 }), fc.integer({ min: 500, max: 15_000 })), {
        minLength: 1,
        maxLength: 8,
      })
      .map((gaps) => {
        let at = 20_000;
        return gaps.map(([pause, length]): [number, number] => {
          const from = at + pause;
          at = from + length;
          return [from, at];
        });
      });
    fc.assert(
      fc.property(
        outages,
        fc.integer({ min: 0, max: INTERVAL_MS - 1 }),
        fc.constantFrom<ProviderWord>('running', 'unknown'),
        (away, phase, word) => {
          const end = (away.at(-1)?.[1] ?? 0) + 60_000;
          const isAway = (at: number) => away.some(([from, to]) => at >= from && at < to);
          const { deadAt } = watch(
            {
              beats: beatsUntil(end, phase, away),
              provider: () => word,
              ssh: (at) => (isAway(at) ? 'silent' : 'authenticated'),
            },
            end,
          );
          expect(deadAt).toBeNull();
        },
      ),
    );
  });

  it('a listing that is slow or not believed, while SSH lets us in', () => {
    const { deadAt, looks } = watch({ beats: [0], provider: () => 'unknown', ssh: () => 'authenticated' }, 900_000);
    expect(deadAt).toBeNull();
    expect(looks.at(-1)?.judgement.watch.verdict).toBe('suspect');
  });

  it('many nodes that fall silent at once, without the word of their provider', () => {
    const silent = { beats: [0], ssh: () => 'silent' as const, isMassSilence: true };
    for (const word of LIVING) expect(watch({ ...silent, provider: () => word }, 900_000).deadAt).toBeNull();
    expect(watch({ ...silent, provider: () => 'failed' }, 900_000).deadAt).not.toBeNull();
    const at = (...seconds: number[]) => seconds.map((one) => T0 + one * 1_000);
    expect(isMassSilence(T0, at(0), 1)).toBe(false);
    expect(isMassSilence(T0, at(0, 9), 2)).toBe(true);
    expect(isMassSilence(T0, at(0, 9), 4)).toBe(true);
    expect(isMassSilence(T0, at(0, 9), 5)).toBe(false);
  });
});

describe('a node that falls silent beside one whose agent crashed long ago', () => {
  it('is judged as if that were not there', () => {
    expect(isMassSilence(T0, [T0, T0 - 3_600_000], 2)).toBe(false);
    expect(isMassSilence(T0, [T0, T0 + 5_000, T0 - 3_600_000], 3)).toBe(true);
  });
});

describe('whatever the history', () => {
  const look = fc.record({
    afterMs: fc.integer({ min: 100, max: 30_000 }),
    hasBeat: fc.boolean(),
    provider: fc.constantFrom(...WORDS),
    ssh: fc.constantFrom<SshWord>('authenticated', 'answers', 'silent', 'unknown'),
    isListening: fc.boolean(),
    isMassSilence: fc.boolean(),
  });

  it('death has two sources, a suspicion a reason, and a node in time is never dead', () => {
    fc.assert(
      fc.property(fc.array(look, { maxLength: 60 }), (looks) => {
        let now = T0;
        let heardAt = T0;
        let listeningSince: number | null = T0;
        let state: NodeWatch | null = null;
        for (const one of looks) {
          now += one.afterMs;
          if (one.hasBeat) heardAt = now;
          listeningSince = one.isListening ? (listeningSince ?? now) : null;
          const before: NodeWatch | null = state;
          const { watch: after, reasons } = judgeFailure(state, {
            ...one,
            heardAt,
            intervalMs: INTERVAL_MS,
            listeningSince,
            now,
          });
          state = after;
          if (one.hasBeat) expect(after.verdict).not.toBe('dead');
          if (after.verdict === 'suspect') expect(reasons).not.toHaveLength(0);
          if (after.verdict === 'alive') expect(reasons).toHaveLength(0);
          if (after.verdict !== 'dead' || before?.verdict === 'dead') continue;
          const down = ['stopped', 'failed', 'gone'].includes(one.provider);
          const cutOff = after.failedProbes >= 2;
          const silent = listeningSince !== null && now - heardAt > lateAfterMs(INTERVAL_MS);
          expect([down, cutOff, silent].filter(Boolean).length).toBeGreaterThanOrEqual(2);
          expect(one.ssh).not.toBe('authenticated');
          if (one.isMassSilence) expect(down).toBe(true);
        }
      }),
    );
  });

  it('each time that it came back lately makes us more patient', () => {
    const flaps = (count: number) => {
      const away = Array.from({ length: count }, (_, index): [number, number] => [
        25_000 + index * 60_000,
        48_000 + index * 60_000,
      ]);
      const end = 400_000;
      const isAway = (at: number) => at >= end || away.some(([from, to]) => at >= from && at < to);
      const { deadAt } = watch(
        {
          beats: beatsUntil(end - 1, 0, away),
          provider: () => 'unknown',
          ssh: (at) => (isAway(at) ? 'silent' : 'authenticated'),
        },
        900_000,
      );
      return deadAt as number;
    };
    expect(flaps(1)).toBeGreaterThan(flaps(0));
    expect(flaps(3)).toBeGreaterThan(flaps(1));
  });
});
