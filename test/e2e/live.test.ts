/** The live tier, pointed at the simulated vendors: the very program, as it would spend real money. */
import { spawn } from 'node:child_process';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startSandbox, type Sandbox } from '../../sandbox/server.ts';

const API_KEY = 'live-test-key-0123456789';
const BOUND_MS = 120_000;

let sandbox: Sandbox;
beforeAll(async () => {
  sandbox = await startSandbox({ port: 0, dir: null, time: 'explicit', apiKey: API_KEY });
});
afterAll(() => sandbox.close());

function environment(changes: Record<string, string> = {}): Record<string, string> {
  return {
    MUSTER_LIVE_MAX_USD: '0.60',
    MUSTER_VASTAI_API_KEY: API_KEY,
    MUSTER_VASTAI_URL: sandbox.urls.vastai,
    MUSTER_VASTAI_RATE_LIMITS: 'off',
    MUSTER_VASTAI_LIST_LAG: '0 seconds',
    MUSTER_READINESS_INTERVAL: '500 ms',
    ...changes,
  };
}

/** Lets the vendor's time pass until the program ends. `onLine` may stop it. */
async function runLive(
  env: Record<string, string>,
  args: string[] = [],
  onLine: (line: string, stop: () => void) => void = () => {},
): Promise<{ code: number | null; output: string }> {
  const { PATH = '', HOME = '', XDG_CACHE_HOME, NODE_COMPILE_CACHE } = process.env;
  const child = spawn(process.execPath, ['test/live/run-live.ts', ...args], {
    env: {
      PATH,
      HOME,
      ...(XDG_CACHE_HOME ? { XDG_CACHE_HOME } : {}),
      ...(NODE_COMPILE_CACHE ? { NODE_COMPILE_CACHE } : {}),
      // What `.env` might say of the deployment that really runs here must not be used.
      DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      for (const line of text.split('\n')) onLine(line, () => child.kill('SIGINT'));
    });
  }
  let code: number | null | undefined;
  child.on('exit', (ended) => (code = ended));
  while (code === undefined) {
    await sandbox.advance(1_000);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return { code, output };
}

const bought = () => sandbox.state().vastai.machines.filter(({ origin }) => origin !== 'foreign');

it(
  'refuses to begin without a bound or a key, or with a wrong one, and says each',
  async () => {
    const bare = await runLive({});
    expect(bare.code).toBe(2);
    expect(bare.output).toMatch(/MUSTER_LIVE_MAX_USD is not set[^]*MUSTER_VASTAI_API_KEY/);
    const wrong = await runLive(environment({ MUSTER_LIVE_MAX_USD: '-1' }), ['--provider', 'runpod']);
    expect(wrong.code).toBe(2);
    expect(wrong.output).toMatch(/got "-1"[^]*runpod has no key: set MUSTER_RUNPOD_API_KEY/);
    const unknown = await runLive(environment(), ['--provider', 'nobody']);
    expect([unknown.code, unknown.output]).toEqual([2, expect.stringContaining('there is no provider "nobody"')]);
    expect(bought()).toEqual([]);
  },
  BOUND_MS,
);

it(
  'buys nothing when the cheapest machine could cost more than the bound',
  async () => {
    const { code, output } = await runLive(environment({ MUSTER_LIVE_MAX_USD: '0.0001' }));
    expect(code, output).toBe(1);
    expect(output).toMatch(/cheapest: .* at vastai[^]*FAILED: nothing fits/);
    expect(output).not.toContain('MAY BE LEFT');
    expect(bought()).toEqual([]);
  },
  BOUND_MS,
);

it(
  'tells the price, rents, looks into the machine, gives it back, proves it gone and tells the cost',
  async () => {
    const { code, output } = await runLive(environment());
    expect(code, output).toBe(0);
    expect(output).toMatch(/PRICE: [^]*ready[^]*SSH and GPU: [^]*GONE: [^]*COST: \$0\.\d+/);
    expect(bought()).toMatchObject([{ destroyedAtMs: expect.any(Number) }]);
    expect(output).not.toContain(API_KEY);
  },
  BOUND_MS,
);

it(
  'gives back what it has bought when it is stopped',
  async () => {
    const before = bought().length;
    const { code, output } = await runLive(environment(), [], (line, stop) => {
      if (/: (creating|booting|ready),/.test(line) && bought().length > before) stop();
    });
    expect(code, output).toBe(1);
    expect(output).toMatch(/FAILED: stopped by SIGINT[^]*GONE: /);
    expect(bought().slice(before)).toMatchObject([{ destroyedAtMs: expect.any(Number) }]);
  },
  BOUND_MS,
);
