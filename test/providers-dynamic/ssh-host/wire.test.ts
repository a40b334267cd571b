import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  FACTS_SCRIPT,
  parseAgent,
  parseFacts,
  parseLeft,
  quote,
  writeFile,
} from '../../../providers-dynamic/ssh-host/wire.ts';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'muster-wire-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** The real script on this machine, with programs of the test's own before the others. */
function factsWith(programs: Record<string, string>) {
  for (const [name, text] of Object.entries(programs))
    writeFileSync(join(dir, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  const env = { PATH: `${dir}:${process.env['PATH'] ?? ''}` };
  return parseFacts(execFileSync('sh', ['-s'], { input: FACTS_SCRIPT, env, encoding: 'utf8' }));
}

describe('the facts of a host', () => {
  it('are read by the real script: GPUs and disks as they are told', () => {
    const facts = factsWith({
      'nvidia-smi':
        "echo 'NVIDIA H100 80GB HBM3, GPU-1, 81559, 570.1'; echo 'NVIDIA H100 80GB HBM3, GPU-2, [N/A], 570.1'",
      lsblk: "echo 'sdb 4000787030016 disk'; echo 'sda 512110190592 disk'; echo 'loop0 5 loop'",
    });
    expect(facts.gpus).toEqual([
      { name: 'NVIDIA H100 80GB HBM3', uuid: 'GPU-1', memoryMib: 81_559, driver: '570.1' },
      { name: 'NVIDIA H100 80GB HBM3', uuid: 'GPU-2', memoryMib: null, driver: '570.1' },
    ]);
    expect(facts.disks).toEqual([
      { name: 'sda', gib: 477 },
      { name: 'sdb', gib: 3726 },
    ]);
    expect(facts).toMatchObject({ gpuProblem: null, cpuCount: expect.any(Number), kernel: expect.any(String) });
  });

  it('are unknown, never none and never zero, where a program fails', () => {
    const facts = factsWith({ 'nvidia-smi': 'exit 9', lsblk: 'exit 1' });
    expect(facts).toMatchObject({ gpus: null, gpuProblem: 'nvidia-smi is there and fails', disks: null });
  });

  it.each([
    ['none', [], null],
    ['no_driver', null, /the driver is missing/],
    ['gaudi', null, /Gaudi/],
    ['', null, /does not tell/],
  ])('tell of the devices "%s"', (gpus, expected, problem) => {
    const facts = parseFacts(`kernel=6.1\ngpus=${gpus}\n`);
    expect(facts.gpus).toEqual(expected);
    if (problem === null) expect(facts.gpuProblem).toBeNull();
    else expect(facts.gpuProblem).toMatch(problem);
    expect(facts).toMatchObject({ cpuCount: null, memoryMib: null, disks: null, os: null });
  });

  it('are not believed when there are none', () => {
    expect(() => parseFacts('')).toThrow('says nothing about itself');
    expect(() => parseAgent('files=\n')).toThrow('does not say whether');
    expect(parseLeft('nothing')).toBeUndefined();
    expect(parseLeft('left=\n')).toEqual([]);
  });
});

describe('what is put into a script', () => {
  it('stays one word and one file, whatever is in it', () => {
    const evil = `a'b"$(id)\`id\`\n; rm -rf /`;
    const out = execFileSync('sh', ['-s'], { input: `printf %s ${quote(evil)}`, encoding: 'utf8' });
    expect(out).toBe(evil);
    const file = join(dir, 'file');
    const text = `$(id) 'x' \\n "$HOME"\nEOF\nlast\n`;
    execFileSync('sh', ['-s'], { input: writeFile(file, text) });
    expect(execFileSync('cat', [file], { encoding: 'utf8' })).toBe(text);
  });
});
