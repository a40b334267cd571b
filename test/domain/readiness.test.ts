import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ObservedInstance } from '../../domain/observed-instance.ts';
import { FAILED_STATUS_GRACE_MS, judgeReadiness, parseNvidiaSmiCsv, type SshProbe } from '../../domain/readiness.ts';
import { NOW } from './provisioning/market.ts';

const observed: ObservedInstance = {
  provider: 'vastai',
  providerInstanceId: '70001',
  label: 'ours',
  status: 'running',
  statusDetail: null,
  machineId: 'm1',
  gpu: 'RTX 4090',
  gpuCount: 1,
  gpuMemoryGib: 24,
  priceMicroUsdPerHour: 300_000n,
  interruptible: false,
  interrupted: false,
  ssh: { host: '203.0.113.5', port: 41022, user: 'root' },
  image: null,
  region: null,
  startedAt: null,
};
const good = { name: 'NVIDIA GeForce RTX 4090', memoryMib: 24564 };
const ssh: SshProbe = { reached: true, authenticated: true, gpus: [good], detail: null };

function judge(over: Partial<Parameters<typeof judgeReadiness>[0]> = {}) {
  return judgeReadiness({
    observed,
    listingBelievable: true,
    ssh,
    promised: { gpu: 'RTX 4090', gpuCount: 1, gpuMemoryGib: 24 },
    agent: null,
    attempt: { purchasedAt: NOW - 120_000 },
    now: NOW,
    ...over,
  });
}

describe('a machine', () => {
  it('that runs, lets our key in and shows the promised GPUs is ready', () =>
    expect(judge()).toEqual({ kind: 'ready' }));

  it.each([
    ['is not listed yet', { observed: null }, 'starting'],
    ['is starting', { observed: { ...observed, status: 'starting' as const } }, 'starting'],
    ['has an unknown status', { observed: { ...observed, status: 'unknown' as const } }, 'starting'],
    ['has no address yet', { ssh: null }, 'starting'],
    ['does not answer', { ssh: { ...ssh, reached: false, authenticated: false, gpus: null } }, 'starting'],
    ['does not know our key yet', { ssh: { ...ssh, authenticated: false, gpus: null } }, 'installing'],
    ['gives no GPUs to read', { ssh: { ...ssh, gpus: null } }, 'verifying'],
    ['lists no GPU at all', { ssh: { ...ssh, gpus: [] } }, 'verifying'],
    ['has a GPU without a readable memory', { ssh: { ...ssh, gpus: [{ ...good, memoryMib: null }] } }, 'verifying'],
    ['is on a listing that is not believed', { listingBelievable: false }, 'starting'],
    ['waits for its agent alone', { agent: { registeredAt: null } }, 'waiting_registration'],
    [
      'waits for its agent and its driver',
      { agent: { registeredAt: null }, ssh: { ...ssh, gpus: null } },
      'waiting_registration',
    ],
    ['has its agent and no driver yet', { agent: { registeredAt: NOW }, ssh: { ...ssh, gpus: null } }, 'verifying'],
  ])('that %s is not ready yet, and not failed', (_, over, phase) => {
    expect(judge(over)).toMatchObject({ kind: 'not_yet', phase });
  });

  it('whose agent has registered is ready with the rest', () => {
    expect(judge({ agent: { registeredAt: NOW - 1 } })).toEqual({ kind: 'ready' });
  });

  it('with other GPUs than promised has failed, whatever its agent does', () => {
    const wrong = { ...ssh, gpus: [{ ...good, name: 'NVIDIA GeForce RTX 3060' }] };
    expect(judge({ agent: { registeredAt: null }, ssh: wrong })).toMatchObject({
      kind: 'failed',
      code: 'wrong_hardware',
    });
  });

  it.each([
    ['another model', [{ ...good, name: 'NVIDIA GeForce RTX 3090' }], 'RTX 3090'],
    ['too little memory', [{ ...good, memoryMib: 12_000 }], '12000 MiB'],
    ['too many GPUs', [good, good], 'shows 2 GPUs'],
  ])('with %s is not what was paid for', (_, gpus, words) => {
    const verdict = judge({ ssh: { ...ssh, gpus } });
    expect(verdict).toMatchObject({ kind: 'failed', code: 'wrong_hardware' });
    expect(JSON.stringify(verdict)).toContain(words);
  });

  it('with one wrong GPU of eight is not what was paid for', () => {
    const promised = { gpu: 'RTX 4090', gpuCount: 8, gpuMemoryGib: 24 };
    const eight = Array.from({ length: 8 }, () => good);
    expect(judge({ promised, ssh: { ...ssh, gpus: eight } })).toEqual({ kind: 'ready' });
    const seven = [...eight.slice(1), { ...good, name: 'NVIDIA GeForce RTX 4080' }];
    expect(judge({ promised, ssh: { ...ssh, gpus: seven } }).kind).toBe('failed');
  });

  it.each(['stopped', 'failed'] as const)('that the vendor calls %s has failed, after a grace', (status) => {
    const over = { observed: { ...observed, status, statusDetail: 'OCI runtime create failed' } };
    const justBought = { purchasedAt: NOW - FAILED_STATUS_GRACE_MS + 1 };
    expect(judge({ ...over, attempt: justBought }).kind).toBe('not_yet');
    expect(judge(over)).toMatchObject({
      kind: 'failed',
      code: 'boot_failed',
      reason: expect.stringContaining('OCI runtime') as string,
    });
  });

  it('is never ready or failed on the word of a listing that is not believed', () => {
    const statuses = fc.constantFrom('starting', 'running', 'stopped', 'failed', 'unknown' as const);
    fc.assert(
      fc.property(statuses, fc.boolean(), (status, isListed) => {
        const over = { observed: isListed ? { ...observed, status: status } : null };
        expect(judge({ ...over, listingBelievable: false }).kind).toBe('not_yet');
      }),
    );
  });
});

describe('nvidia-smi output', () => {
  it('is read row by row', () => {
    expect(parseNvidiaSmiCsv('NVIDIA GeForce RTX 4090, 24564\r\nNVIDIA GeForce RTX 4090, 24564 MiB\n')).toEqual([
      good,
      good,
    ]);
  });

  it.each([
    '[N/A]',
    'N/A',
    '[Not Supported]',
    '[Insufficient Permissions]',
    '[Unknown Error]',
    '[gpu is lost]',
    '',
    '0',
  ])('with a memory of %j has an unknown memory, never 0', (token) =>
    expect(parseNvidiaSmiCsv(`NVIDIA L40S, ${token}`)).toEqual([{ name: 'NVIDIA L40S', memoryMib: null }]),
  );

  it('of a lost GPU has an unknown name', () => {
    expect(parseNvidiaSmiCsv('[GPU is lost], [GPU is lost]')).toEqual([{ name: null, memoryMib: null }]);
  });

  it.each([
    '',
    '\n\n',
    'No devices were found',
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest driver, please, is installed.",
    'Failed to initialize NVML: Driver/library version mismatch',
    'Field "memory.totl" is not a valid field to query.',
    'NVIDIA L40S, 46068\nWARNING: infoROM is corrupted at gpu 0000:00:09.0',
    'NVIDIA L40S, lots',
  ])('%j is unreadable as a whole', (text) => expect(parseNvidiaSmiCsv(text)).toBeNull());

  it('of any kind never gives a memory that is not above 0', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        for (const gpu of parseNvidiaSmiCsv(text) ?? [])
          if (gpu.memoryMib !== null) expect(gpu.memoryMib).toBeGreaterThan(0);
      }),
    );
  });
});
