import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { probeSsh } from '../../../automation/readiness/probe-ssh.ts';
import { makeKeyPair, SSH_KEY, startSshMachine, type SshMachine } from '../../support/ssh-machine.ts';

const OTHER_KEY = makeKeyPair().private;
const PATIENT_MS = 10_000;

let machine: SshMachine;
beforeEach(async () => {
  machine = await startSshMachine();
});
afterEach(() => machine.close());

describe('a probe', () => {
  it('of a machine that lets us in tells which GPUs nvidia-smi shows', async () => {
    machine.answer = { output: 'NVIDIA GeForce RTX 4090, 24564\nNVIDIA GeForce RTX 4090, 24564\n', exitCode: 0 };
    expect(await probeSsh(machine, SSH_KEY.private, PATIENT_MS)).toEqual({
      reached: true,
      authenticated: true,
      gpus: [
        { name: 'NVIDIA GeForce RTX 4090', memoryMib: 24_564 },
        { name: 'NVIDIA GeForce RTX 4090', memoryMib: 24_564 },
      ],
      detail: null,
    });
    expect(machine.commands).toEqual(['nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits']);
  });

  it('with a key that is not let in says reached and not authenticated', async () => {
    const found = await probeSsh(machine, OTHER_KEY, PATIENT_MS);
    expect(found).toMatchObject({ reached: true, authenticated: false, gpus: null });
    expect(found.detail).toMatch(/authentication/i);
    expect(machine.commands).toEqual([]);
  });

  it.each([
    ['is missing', { output: 'bash: nvidia-smi: command not found', exitCode: 127 }, /ended with 127/],
    ['fails after it printed a table', { output: 'NVIDIA GeForce RTX 4090, 24564\n', exitCode: 9 }, /ended with 9/],
    ['is killed', { output: '', exitCode: null }, /ended with/],
  ])('where nvidia-smi %s gives no GPUs and the reason', async (_how, answer, reason) => {
    machine.answer = answer;
    const found = await probeSsh(machine, SSH_KEY.private, PATIENT_MS);
    expect(found).toMatchObject({ reached: true, authenticated: true, gpus: null });
    expect(found.detail).toMatch(reason);
  });

  it('where nvidia-smi prints no table gives no GPUs', async () => {
    machine.answer = { output: 'NVIDIA-SMI has failed because it could not communicate with the driver', exitCode: 0 };
    expect(await probeSsh(machine, SSH_KEY.private, PATIENT_MS)).toMatchObject({ authenticated: true, gpus: null });
  });

  it('of a machine that never speaks ends in time, not reached', async () => {
    machine.mood = 'silent';
    const found = await probeSsh(machine, SSH_KEY.private, 150);
    expect(found).toMatchObject({ reached: false, authenticated: false, gpus: null });
    expect(found.detail).not.toBeNull();
  });

  it('whose command never ends ends in time and keeps what it found so far', async () => {
    machine.answer = 'never';
    const found = await probeSsh(machine, SSH_KEY.private, 1_000);
    expect(found).toEqual({ reached: true, authenticated: true, gpus: null, detail: 'no answer within 1 s' });
  });

  it('of a machine that hangs up, or of a port where nothing listens, is not reached', async () => {
    machine.mood = 'hangs_up';
    expect(await probeSsh(machine, SSH_KEY.private, PATIENT_MS)).toMatchObject({ reached: false, gpus: null });
    await machine.close();
    const found = await probeSsh(machine, SSH_KEY.private, PATIENT_MS);
    expect(found).toMatchObject({ reached: false, detail: expect.stringMatching(/ECONNREFUSED/) as string });
  });

  it('with a key that is no key throws nothing', async () => {
    expect(await probeSsh(machine, 'no key at all', PATIENT_MS)).toMatchObject({ reached: false, gpus: null });
  });
});
