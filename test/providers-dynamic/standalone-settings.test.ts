import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readStandaloneSettings } from '../../providers-dynamic/standalone-settings.ts';
import { VASTAI_RATE_LIMITS } from '../../providers-dynamic/vastai/rate-limits.ts';

const LIVE = { MUSTER_SANDBOX: 'off', MUSTER_VASTAI_API_KEY: 'live-key' };

describe('the settings of plain pulumi up', () => {
  it('ask the sandbox on this machine, and never send a real key there, unless it is switched off', () => {
    const settings = readStandaloneSettings({ VAST_API_KEY: 'live-key' }, 'vastai');
    expect(settings).toEqual({
      apiKey: 'sandbox',
      baseUrl: 'http://127.0.0.1:8091',
      rateLimits: {},
      listLagMs: 0,
    });
    expect(readStandaloneSettings({}, 'lambda').baseUrl).toBe('http://127.0.0.1:8094');
    expect(readStandaloneSettings({ MUSTER_SANDBOX_PORT: '9000' }, 'vastai').baseUrl).toBe('http://127.0.0.1:9001');
    expect(() => readStandaloneSettings({ MUSTER_VASTAI_URL: 'https://console.vast.ai' }, 'vastai')).toThrow(
      /on this machine/,
    );
  });

  it('are the vendor’s own when live', () => {
    expect(readStandaloneSettings(LIVE, 'vastai')).toEqual({
      apiKey: 'live-key',
      baseUrl: 'https://console.vast.ai',
      rateLimits: VASTAI_RATE_LIMITS,
      listLagMs: 15_000,
    });
  });

  it('take the key from our variable first, then a file, then the vendor’s names', () => {
    const folder = mkdtempSync(join(tmpdir(), 'muster-key-'));
    const file = join(folder, 'key');
    writeFileSync(file, 'key-of-file\n');
    const keyOf = (env: Record<string, string>) =>
      readStandaloneSettings({ MUSTER_SANDBOX: 'off', ...env }, 'vastai').apiKey;
    expect(keyOf({ VAST_API_KEY: 'c', VASTAI_API_KEY: 'b' })).toBe('b');
    expect(keyOf({ MUSTER_VASTAI_API_KEY_FILE: file, VAST_API_KEY: 'c' })).toBe('key-of-file');
    expect(() => keyOf({})).toThrow(/MUSTER_VASTAI_API_KEY/);
    rmSync(folder, { recursive: true });
  });

  it.each([
    [{ MUSTER_VASTAI_URL: 'vast' }, /MUSTER_VASTAI_URL/],
    [{ MUSTER_VASTAI_RATE_LIMITS: 'fast' }, /MUSTER_VASTAI_RATE_LIMITS/],
    [{ MUSTER_VASTAI_RATE_LIMITS: '{"create":-1}' }, /MUSTER_VASTAI_RATE_LIMITS/],
    [{ MUSTER_VASTAI_LIST_LAG: '15' }, /MUSTER_VASTAI_LIST_LAG/],
  ])('name what is wrong in %j', (env, message) => {
    expect(() => readStandaloneSettings({ ...LIVE, ...env }, 'vastai')).toThrow(message);
  });

  it('take own limits and another lag', () => {
    const env = { ...LIVE, MUSTER_VASTAI_RATE_LIMITS: '{"create":9}', MUSTER_VASTAI_LIST_LAG: '2 minutes' };
    expect(readStandaloneSettings(env, 'vastai')).toMatchObject({ rateLimits: { create: 9 }, listLagMs: 120_000 });
  });
});
