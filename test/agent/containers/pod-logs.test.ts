import { describe, expect, it } from 'vitest';
import { createLines } from '../../../agent/containers/pod-logs.ts';

function frame(stream: 1 | 2, text: string): Buffer {
  const head = Buffer.alloc(8);
  head[0] = stream;
  head.writeUInt32BE(Buffer.byteLength(text), 4);
  return Buffer.concat([head, Buffer.from(text)]);
}
const at = (n: number) => `2026-11-21T12:00:00.${String(n).padStart(9, '0')}Z`;

describe('frames of an engine', () => {
  it('are lines, however they are cut on their way', () => {
    const all = Buffer.concat([
      frame(1, `${at(1)} one\n${at(2)} tw`),
      frame(2, `${at(3)} wrong\n`),
      frame(1, `o\n${at(4)} no end`),
    ]);
    for (const size of [1, 7, 13, all.length]) {
      const lines = createLines(null);
      for (let from = 0; from < all.length; from += size) lines.add(all.subarray(from, from + size));
      lines.finish();
      expect(lines.take()).toEqual([
        { at: at(1), stream: 'stdout', text: 'one' },
        { at: at(3), stream: 'stderr', text: 'wrong' },
        { at: at(2), stream: 'stdout', text: 'two' },
        { at: at(4), stream: 'stdout', text: 'no end' },
      ]);
      expect(lines.hasSome()).toBe(false);
    }
  });

  it('that begin after a time leave the earlier ones out; with whole seconds rather one twice than one lost', () => {
    const lines = createLines(at(2));
    lines.add(frame(1, `${at(1)} a\n${at(2)} b\n${at(3)} c\n`));
    expect(lines.take().map(({ text }) => text)).toEqual(['c']);
    const whole = createLines('2026-11-21T12:00:00Z');
    whole.add(frame(1, `2026-11-21T11:59:59Z a\n2026-11-21T12:00:00Z b\n2026-11-21T12:00:01Z c\n`));
    expect(whole.take().map(({ text }) => text)).toEqual(['b', 'c']);
  });

  it('have times in UTC', () => {
    const lines = createLines(null);
    lines.add(frame(1, '2026-11-21T13:00:00.5+01:00 x\n'));
    expect(lines.take()).toEqual([{ at: '2026-11-21T12:00:00.5Z', stream: 'stdout', text: 'x' }]);
  });

  it('are bounded: long lines are cut, and there are never more in one batch than a body may hold', () => {
    const lines = createLines(null);
    lines.add(frame(1, `${at(1)} ${'x'.repeat(50_000)}\n`));
    expect(lines.take()[0]?.text).toHaveLength(16_000);
    for (let n = 0; n < 1_200; n++) lines.add(frame(1, `${at(n)} ${n}\n`));
    expect(lines.isFull()).toBe(true);
    expect([lines.take().length, lines.take().length, lines.take().length]).toEqual([500, 500, 200]);
    for (let n = 0; n < 100; n++) lines.add(frame(1, `${at(n)} ${'y'.repeat(10_000)}\n`));
    expect(lines.take().length).toBe(20);
  });

  it('that are nothing of an engine are no lines', () => {
    const lines = createLines(null);
    lines.add(frame(1, 'no time\n\n'));
    lines.finish();
    expect(lines.take()).toEqual([]);
  });
});
