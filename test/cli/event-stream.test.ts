import { describe, expect, it } from 'vitest';
import { parseEvents } from '../../cli/event-stream.ts';
import type { StreamEvent } from '../../cli/event-stream.ts';
import { formatMicroUsd, formatSpan, formatSum, printable } from '../../cli/format.ts';

async function parse(...chunks: string[]): Promise<StreamEvent[]> {
  const encoder = new TextEncoder();
  const body = new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(encoder.encode(chunk));
      controller.close();
    },
  });
  const events: StreamEvent[] = [];
  for await (const event of parseEvents(new Response(body))) events.push(event);
  return events;
}

describe('an event stream', () => {
  it('is read the same however it is cut into pieces', async () => {
    const text = ': hi\n\nid: 1\nevent: status\ndata: {"a":\ndata: 1}\n\nid:2\r\ndata:x\r\n\r\ndata: cut off';
    const whole = await parse(text);
    expect(whole).toEqual([
      { id: '1', event: 'status', data: '{"a":\n1}' },
      { id: '2', event: 'message', data: 'x' },
    ]);
    expect(await parse(...text.split(''))).toEqual(whole);
  });
});

describe('values for people', () => {
  it('never show a price lower than it is', () => {
    expect([345_000, 345_001, 2_000_000, 1, 0].map(formatMicroUsd)).toEqual([
      '$0.345',
      '$0.3451',
      '$2.00',
      '$0.0001',
      '$0.00',
    ]);
    expect([248_400_000, 12_345, 1_009_999].map(formatSum)).toEqual(['$248.40', '$0.02', '$1.01']);
    expect(formatMicroUsd(null)).toBe('-');
  });

  it('shorten times to their two largest units', () => {
    expect([0, 999, 95_000, 3_600_000, 90_061_000].map(formatSpan)).toEqual(['0s', '1s', '1m 35s', '1h', '1d 1h']);
  });

  it('lose control characters', () => {
    expect(printable('a\u001b[31mb\u0007\u009bc\td')).toBe('a[31mbc\td');
  });
});
