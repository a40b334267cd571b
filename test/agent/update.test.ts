import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createUpdates, type UpdateParts } from '../../agent/update.ts';
import { renderInstallScript } from '../../api/install-script.ts';

let directory: string;
let program: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'muster-update-'));
  program = join(directory, 'agent.mjs');
  writeFileSync(program, OLD);
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const OLD = '// the old one\n';
const NEW = '// the new one\n';
const digest = (text: string) => createHash('sha256').update(text).digest('hex');
const idle = { isBusy: false };
const now = { ms: 0 };

/** An agent that has just been started from the file that is there. */
function start(change: Partial<UpdateParts> = {}) {
  const log: string[] = [];
  const updates = createUpdates({
    directory,
    program,
    download: () => Promise.resolve(NEW),
    tryOut: () => Promise.resolve(),
    monotonicMs: () => now.ms,
    random: () => 0,
    spreadMs: 0,
    log: (line) => log.push(line),
    ...change,
  });
  return { updates, log };
}

async function seeThrice(updates: ReturnType<typeof start>['updates'], sha256 = digest(NEW), options = idle) {
  const results: (boolean | undefined)[] = [];
  for (let beat = 0; beat < 3; beat++) results.push(await updates?.consider(sha256, options));
  return results;
}

describe('an agent that is handed out anew', () => {
  it('takes the place of this one after it was seen three times, and this one is kept beside it', async () => {
    const { updates } = start();
    expect(await seeThrice(updates)).toEqual([false, false, true]);
    expect(readFileSync(program, 'utf8')).toBe(NEW);
    expect(readFileSync(`${program}.previous`, 'utf8')).toBe(OLD);
    const next = start().updates;
    next?.confirm();
    expect(await next?.consider(digest(NEW), idle)).toBe(false);
  });

  it('is left alone while two are handed out in turn, while orders run, and where nothing is known', async () => {
    const { updates } = start();
    for (let beat = 0; beat < 6; beat++) {
      expect(await updates?.consider(digest(beat % 2 === 0 ? NEW : OLD.repeat(2)), idle)).toBe(false);
      expect(await updates?.consider(null, idle)).toBe(false);
    }
    expect(await seeThrice(updates, digest(NEW), { isBusy: true })).toEqual([false, false, false]);
    expect(readFileSync(program, 'utf8')).toBe(OLD);
  });

  it('is taken by each agent of a fleet at another moment', async () => {
    now.ms = 0;
    const { updates } = start({ random: () => 0.5, spreadMs: 600_000 });
    expect(await seeThrice(updates)).toEqual([false, false, false]);
    now.ms = 300_000;
    expect(await updates?.consider(digest(NEW), idle)).toBe(true);
  });

  it('that has another checksum, or cannot be downloaded, changes nothing and may be tried later', async () => {
    let text = 'something else';
    const { updates, log } = start({ download: () => Promise.resolve(text) });
    await seeThrice(updates);
    expect(log.join()).toMatch(/another checksum/);
    expect(readFileSync(program, 'utf8')).toBe(OLD);
    text = NEW;
    expect(await seeThrice(updates)).toEqual([false, false, true]);
  });

  it('that fails its trial is never put in place and never tried again, by later starts either', async () => {
    let trials = 0;
    const failing = { tryOut: () => Promise.reject(new Error(`trial ${++trials} failed`)) };
    await seeThrice(start(failing).updates);
    await seeThrice(start(failing).updates);
    expect(trials).toBe(1);
    expect(readFileSync(program, 'utf8')).toBe(OLD);
    expect(existsSync(join(directory, 'next.agent.mjs'))).toBe(false);
  });

  it('that starts again and again without being answered puts the old one back', async () => {
    await seeThrice(start().updates);
    for (let starts = 0; starts < 5; starts++) expect(start().updates).not.toBeNull();
    expect(start().updates).toBeNull();
    expect(readFileSync(program, 'utf8')).toBe(OLD);
    // The old one does not take it again.
    expect(await seeThrice(start().updates)).toEqual([false, false, false]);
  });

  it('that is not understood puts the old one back', async () => {
    await seeThrice(start().updates);
    const { updates, log } = start();
    expect([1, 2, 3, 4, 5].map(() => updates?.complain())).toEqual([false, false, false, false, true]);
    expect(readFileSync(program, 'utf8')).toBe(OLD);
    expect(log.join()).toMatch(/not understood/);
  });

  it('that was confirmed stays, whatever comes later', async () => {
    await seeThrice(start().updates);
    start().updates?.confirm();
    for (let starts = 0; starts < 10; starts++) expect(start().updates).not.toBeNull();
    const { updates } = start();
    for (let times = 0; times < 10; times++) expect(updates?.complain()).toBe(false);
    expect(readFileSync(program, 'utf8')).toBe(NEW);
  });

  it('does not matter where updates are off', async () => {
    const { updates } = start({ program: null });
    expect(await seeThrice(updates)).toEqual([false, false, false]);
  });
});

describe('what starts the agent', () => {
  /** start.sh, as the installer writes it. */
  function writeStarter(): () => string {
    const script = renderInstallScript('0'.repeat(64), {});
    const functions = script.slice(0, script.indexOf('if [ "${1:-}" = uninstall ]'));
    const env = { PATH: process.env['PATH'], MUSTER_AGENT_DIR: directory };
    execFileSync('sh', ['-c', `${functions}\nnode=/bin/sh node_flags=\nwrite_starter`], { env });
    return () => spawnSync('sh', [join(directory, 'start.sh')], { encoding: 'utf8', env }).stdout.trim();
  }
  const starts = () => readFileSync(join(directory, 'unproven-starts'), 'utf8').trim();

  it('puts the one before back where the new one ended six times before it could look for itself, and that is told', async () => {
    writeFileSync(program, 'echo old\n');
    const NEXT = 'echo broken; exit 1\n';
    const run = writeStarter();
    expect([run(), run(), run()]).toEqual(['old', 'old', 'old']);
    await seeThrice(start({ download: () => Promise.resolve(NEXT) }).updates, digest(NEXT));
    expect(Array.from({ length: 7 }, run)).toEqual([...Array<string>(6).fill('broken'), 'old']);
    expect(run()).toBe('old');
    const { updates, log } = start();
    expect(updates?.trouble).toMatch(/^the agent [0-9a-f]{12} was put out of use: it ended each time it was started/);
    expect(log.join()).toMatch(/put out of use/);
    // Not again, also not by later starts; and the trouble is told until what is handed out is what runs.
    expect(await seeThrice(updates, digest(NEXT))).toEqual([false, false, false]);
    expect(start().updates?.trouble).toBe(updates?.trouble);
    await start().updates?.consider(digest('echo old\n'), idle);
    expect(start().updates?.trouble).toBeNull();
  });

  it('counts no more once the new one was answered, and does not take one that was never put in place for a failure', async () => {
    const run = writeStarter();
    await seeThrice(start({ download: () => Promise.resolve('echo new\n') }).updates, digest('echo new\n'));
    run();
    expect(starts()).toBe('1');
    start().updates?.confirm();
    expect(Array.from({ length: 8 }, run)).toEqual(Array<string>(8).fill('new'));
    // Killed between the note of the update and its rename.
    const state = { trying: { sha256: digest('never there'), previous: digest('echo new\n'), starts: 0 }, refused: [] };
    writeFileSync(join(directory, 'update.json'), JSON.stringify(state));
    writeFileSync(join(directory, 'unproven-starts'), '5\n');
    expect(start().updates?.trouble).toBeNull();
    expect(existsSync(join(directory, 'unproven-starts'))).toBe(false);
  });

  it('is not led astray by a damaged count, or where there is none to put back', () => {
    writeFileSync(program, 'echo old\n');
    const run = writeStarter();
    writeFileSync(join(directory, 'unproven-starts'), 'x y\n');
    expect(run()).toBe('old');
    expect(starts()).toBe('1');
    writeFileSync(join(directory, 'unproven-starts'), '400\n');
    expect(run()).toBe('old');
  });
});
