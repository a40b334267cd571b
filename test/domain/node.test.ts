import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { judgeFreshness, judgeHealth, placeBeat, STALE_BEATS, type BeatPosition } from '../../domain/node.ts';

describe('freshness', () => {
  const judge = (silentMs: number, change = {}) =>
    judgeFreshness({
      lastHeartbeatAt: 1_000_000 - silentMs,
      registeredAt: 0,
      isMachineGone: false,
      intervalMs: 10_000,
      now: 1_000_000,
      ...change,
    });

  it('allows one heartbeat to be lost and one to be late', () => {
    expect(judge(STALE_BEATS * 10_000).value).toBe('online');
    expect(judge(STALE_BEATS * 10_000 + 1)).toEqual({
      value: 'stale',
      reason: 'no heartbeat for 30 s; one is due every 10 s',
    });
  });

  it('counts from the registration where no heartbeat came', () => {
    const never = judge(0, { lastHeartbeatAt: null, registeredAt: 940_000 });
    expect(never).toEqual({
      value: 'stale',
      reason: 'no heartbeat since it registered for 60 s; one is due every 10 s',
    });
  });

  it('ends with the machine', () => {
    expect(judge(0, { isMachineGone: true }).value).toBe('gone');
  });
});

describe('the order of heartbeats', () => {
  it('accepts each of a boot once, in order, and never goes back to the boot before', () => {
    const boots = fc.constantFrom('a', 'b', 'c');
    const beats = fc.array(fc.record({ bootId: boots, sequence: fc.nat(20) }), { maxLength: 60 });
    fc.assert(
      fc.property(beats, (sent) => {
        let last: BeatPosition = { bootId: null, previousBootId: null, sequence: 0 };
        for (const beat of sent) {
          const place = placeBeat(last, beat);
          if (last.bootId === beat.bootId && beat.sequence <= last.sequence) expect(place).toBe('old');
          if (last.previousBootId === beat.bootId && last.bootId !== beat.bootId) expect(place).toBe('old');
          if (place === 'old') continue;
          expect(place === 'reboot').toBe(last.bootId !== null && last.bootId !== beat.bootId);
          last = { ...beat, previousBootId: place === 'reboot' ? last.bootId : last.previousBootId };
        }
      }),
    );
  });
});

describe('health', () => {
  const promised = { gpu: 'RTX 4090', gpuCount: 1, gpuMemoryGib: 24 };
  const gpu = { name: 'NVIDIA GeForce RTX 4090', memoryTotalMib: 24564 };
  const healthy = { verdict: 'healthy' as const, reason: null };

  it('is what the agent says where that is what was promised', () => {
    expect(judgeHealth({ ...healthy, gpus: [gpu] }, promised).value).toBe('healthy');
    const hot = { verdict: 'degraded' as const, reason: 'GPU 0: slowed down', gpus: [gpu] };
    expect(judgeHealth(hot, promised)).toEqual({ value: 'degraded', reason: 'GPU 0: slowed down' });
  });

  it('fails with other GPUs than promised', () => {
    const cases = [
      { gpus: [], reason: '1 GPU promised, 0 seen' },
      {
        gpus: [{ ...gpu, name: 'NVIDIA GeForce RTX 3060' }],
        reason: 'RTX 4090 promised, NVIDIA GeForce RTX 3060 seen',
      },
      { gpus: [{ ...gpu, memoryTotalMib: 12_000 }], reason: '24 GiB per GPU promised, 12000 MiB seen' },
    ];
    for (const { gpus, reason } of cases) {
      expect(judgeHealth({ ...healthy, gpus }, promised)).toEqual({ value: 'failed', reason });
    }
  });

  it('is unknown where nothing could be read, whatever was promised', () => {
    expect(judgeHealth(null, promised).value).toBe('unknown');
    expect(judgeHealth({ verdict: 'unknown', reason: 'no nvidia-smi', gpus: null }, promised)).toEqual({
      value: 'unknown',
      reason: 'no nvidia-smi',
    });
    expect(judgeHealth({ ...healthy, gpus: null }, promised).value).toBe('unknown');
  });

  it('does not hold what a GPU does not tell against it', () => {
    expect(judgeHealth({ ...healthy, gpus: [{ name: null, memoryTotalMib: null }] }, promised).value).toBe('healthy');
  });
});
