/** The command line at a terminal: a pseudo terminal of util-linux's `script` stands for the person's. */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { API_KEY, startContractServer } from './contract-server.ts';
import type { ContractServer } from './contract-server.ts';
import { makeHome, runMuster } from './run-muster.ts';
import type { Home } from './run-muster.ts';

const CLI = fileURLToPath(new URL('../../cli/', import.meta.url));

let server: ContractServer;
let home: Home;
let terminals: ChildProcess[] = [];
beforeEach(async () => {
  server = await startContractServer();
  home = makeHome();
});
afterEach(async () => {
  for (const terminal of terminals) terminal.kill('SIGKILL');
  terminals = [];
  home.remove();
  await server.close();
});

/** Runs `muster` at a terminal and types `keys` once `question` is shown. */
function runAtTerminal(args: string, question: string, keys: string): Promise<{ code: number | null; shown: string }> {
  // A pseudo terminal begins without a size.
  const command = `stty cols 120 rows 40; '${process.execPath}' '${join(CLI, 'muster.ts')}' ${args}`;
  const env = { ...home.env, MUSTER_API_KEY: API_KEY, MUSTER_URL: server.url, TERM: 'xterm', SHELL: '/bin/sh' };
  const child = spawn('script', ['-qec', command, '/dev/null'], { env });
  terminals.push(child);
  let shown = '';
  let isTyped = false;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    shown += text;
    if (isTyped || !shown.includes(question)) return;
    isTyped = true;
    child.stdin.write(keys);
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, shown }));
  });
}

describe('at a terminal', () => {
  const create = 'instances create --gpu "RTX 4090" --max-price 0.60';

  it('renting shows the price and asks; without a yes nothing is rented', async () => {
    const { code, shown } = await runAtTerminal(create, 'Rent it for about $0.345 an hour?', 'n');
    expect(code).toBe(1);
    expect(shown).toContain('$248.40 in 30 days');
    expect(shown).toContain('Nothing was rented.');
    expect(server.requests.map(({ body }) => (body as { dryRun?: boolean }).dryRun)).toEqual([true]);
  });

  it('a yes rents exactly the plan that was shown', async () => {
    const { code } = await runAtTerminal(create, 'Rent it for about', 'y');
    expect(code).toBe(0);
    expect(server.requests.at(-1)?.body).toMatchObject({ planHash: 'ab'.repeat(32) });
    expect(server.requests.at(-1)?.body).not.toHaveProperty('dryRun');
  });

  it('Ctrl-C at the question rents nothing', async () => {
    const { code } = await runAtTerminal(create, 'Rent it for about', '\u0003');
    expect(code).toBe(130);
    expect(server.requests).toHaveLength(1);
  });

  it('a highest price that was not said is asked for, with the cheapest offer to go by', async () => {
    const question = 'the cheapest offer is $0.345';
    const { shown } = await runAtTerminal('instances create --gpu "RTX 4090"', question, '\u0003');
    expect(shown).toContain('0.44');
  });
});

describe('completion', () => {
  it('of bash offers the words that fit', async () => {
    const { stdout, code } = await runMuster(home, ['completion', 'bash']);
    expect(code).toBe(0);
    const complete = (words: string[]) => {
      const script = `${stdout}\nCOMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}; _muster; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const ended = spawnSync('bash', ['-c', script], { encoding: 'utf8' });
      expect(ended.stderr).toBe('');
      return ended.stdout.trim().split('\n');
    };
    expect(complete(['muster', 'inst'])).toEqual(['instances']);
    expect(complete(['muster', 'instances', 'd'])).toEqual(['destroy']);
    expect(complete(['muster', '--json', 'instances', 'create', '--max-p'])).toEqual(['--max-price-usd-per-hour']);
    expect(complete(['muster', 'instances', 'create', '--pro'])).toEqual(['--providers', '--profile']);
  });

  it('exists for zsh and fish, and for no other shell', async () => {
    expect((await runMuster(home, ['completion', 'zsh'])).stdout).toContain('compdef _muster muster');
    expect((await runMuster(home, ['completion', 'fish'])).stdout).toContain('-a create');
    expect((await runMuster(home, ['completion', 'tcsh'])).code).toBe(2);
  });
});

describe('an old Node', () => {
  const pretend = `data:text/javascript,Object.defineProperty(process,'versions',{value:{...process.versions,node:'20.11.0'}})`;

  it('hands over to the one among our packages', () => {
    const ended = spawnSync(process.execPath, ['--import', pretend, join(CLI, 'muster.mjs'), '--help'], {
      encoding: 'utf8',
    });
    expect(ended.status).toBe(0);
    expect(ended.stdout).toContain('Usage: muster');
  });

  it('says what it needs where there is none', () => {
    const alone = join(home.path, 'cli');
    mkdirSync(alone);
    copyFileSync(join(CLI, 'muster.mjs'), join(alone, 'muster.mjs'));
    const ended = spawnSync(process.execPath, ['--import', pretend, join(alone, 'muster.mjs')], { encoding: 'utf8' });
    expect(ended.status).toBe(1);
    expect(ended.stderr).toContain('muster needs Node 22.18 or newer');
    expect(ended.stderr).toContain('this is Node 20.11.0');
  });
});
