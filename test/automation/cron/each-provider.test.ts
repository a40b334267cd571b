import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { forEachProvider } from '../../../automation/cron/each-provider.ts';

const options = (maxMs?: number) => ({
  signal: new AbortController().signal,
  log: pino({ level: 'silent' }),
  ...(maxMs === undefined ? {} : { maxMs }),
});

describe('work at every provider', () => {
  it('is done at all at once: a slow one delays no other', async () => {
    const ended: string[] = [];
    let release = () => {};
    const slow = new Promise<void>((resolve) => (release = resolve));
    const all = forEachProvider(
      ['vastai', 'runpod', 'lambda'],
      async (provider) => {
        if (provider === 'vastai') await slow;
        ended.push(provider);
        if (ended.length === 2) release();
        return { listed: 1 };
      },
      options(),
    );
    expect(await all).toEqual({ 'vastai.listed': 1, 'runpod.listed': 1, 'lambda.listed': 1 });
    expect(ended.at(-1)).toBe('vastai');
  });

  it('that fails at one is counted there, and the others are as if nothing was', async () => {
    const counts = await forEachProvider(
      ['vastai', 'tensordock'],
      (provider) => (provider === 'vastai' ? Promise.reject(new Error('no')) : Promise.resolve({ listed: 2 })),
      options(),
    );
    expect(counts).toEqual({ 'vastai.failed': 1, 'tensordock.listed': 2 });
  });

  it('that never ends is cut off at its bound', async () => {
    const counts = await forEachProvider(
      ['vastai', 'lambda'],
      async (provider, signal) => {
        if (provider === 'vastai') await new Promise((resolve) => signal.addEventListener('abort', resolve));
        return { listed: provider === 'vastai' ? 0 : 3 };
      },
      options(20),
    );
    expect(counts).toEqual({ 'vastai.listed': 0, 'vastai.cut_off': 1, 'lambda.listed': 3 });
  });

  it('throws, when all have ended, only where the database is away', async () => {
    const away = Object.assign(new Error('Connection terminated'), { code: 'ECONNREFUSED' });
    let ended = 0;
    const all = forEachProvider(
      ['vastai', 'lambda'],
      async (provider) => {
        if (provider === 'vastai') throw away;
        await Promise.resolve();
        ended++;
        return {};
      },
      options(),
    );
    await expect(all).rejects.toThrow('Connection terminated');
    expect(ended).toBe(1);
  });
});
