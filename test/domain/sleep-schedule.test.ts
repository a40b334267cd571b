import { describe, expect, it } from 'vitest';
import { decideBySchedule, isTimeZone, windowAt, type SleepSchedule } from '../../domain/sleep-schedule.ts';

const NIGHTS: SleepSchedule = {
  timeZone: 'Europe/Stockholm',
  windows: [
    { days: ['mon', 'tue', 'wed', 'thu', 'fri'], from: '20:00', to: '07:00' },
    { days: ['sat', 'sun'], from: '00:00', to: '00:00' },
  ],
  wake: true,
  evenIfBusy: false,
};
const at = (text: string) => Date.parse(text);

describe('a window of a schedule', () => {
  it('is open by the clock of its time zone, over midnight too', () => {
    // Monday 23 November 2026; Stockholm is an hour ahead of UTC.
    expect(windowAt(NIGHTS, at('2026-11-23T18:59:00Z'))).toBeNull();
    const first = windowAt(NIGHTS, at('2026-11-23T19:00:00Z'));
    expect(first).not.toBeNull();
    expect(windowAt(NIGHTS, at('2026-11-24T05:59:00Z'))).toBe(first);
    expect(windowAt(NIGHTS, at('2026-11-24T06:00:00Z'))).toBeNull();
    expect(windowAt(NIGHTS, at('2026-11-24T19:30:00Z'))).not.toBe(first);
  });

  it('keeps to the wall clock when summer time begins', () => {
    expect(windowAt(NIGHTS, at('2026-03-27T19:00:00Z'))).not.toBeNull();
    // 30 March 2026 is a Monday in summer time.
    expect(windowAt(NIGHTS, at('2026-03-30T17:59:00Z'))).toBeNull();
    expect(windowAt(NIGHTS, at('2026-03-30T18:00:00Z'))).not.toBeNull();
  });

  it('of equal times lasts the whole day', () => {
    expect(windowAt(NIGHTS, at('2026-11-28T12:00:00Z'))).not.toBeNull();
  });
});

describe('by its schedule an instance', () => {
  const inside = at('2026-11-23T21:00:00Z');
  const outside = at('2026-11-24T08:00:00Z');
  const ready = { status: 'ready', readyAt: at('2026-11-23T10:00:00Z'), sleepCause: null };

  it('is put to sleep in a window and woken after it', () => {
    expect(decideBySchedule(NIGHTS, ready, inside)).toBe('hibernate');
    expect(decideBySchedule(NIGHTS, ready, outside)).toBeNull();
    const asleep = { status: 'hibernated', readyAt: null, sleepCause: 'schedule' };
    expect(decideBySchedule(NIGHTS, asleep, inside)).toBeNull();
    expect(decideBySchedule(NIGHTS, asleep, outside)).toBe('wake');
    expect(decideBySchedule({ ...NIGHTS, wake: false }, asleep, outside)).toBeNull();
  });

  it('is left awake where somebody woke it within the window, until the next one', () => {
    const woken = { ...ready, readyAt: at('2026-11-23T20:30:00Z') };
    expect(decideBySchedule(NIGHTS, woken, inside)).toBeNull();
    expect(decideBySchedule(NIGHTS, woken, at('2026-11-24T20:00:00Z'))).toBe('hibernate');
  });

  it('is left asleep where it does not sleep by its schedule, and alone on its way', () => {
    const asleep = { status: 'hibernated', readyAt: null, sleepCause: 'request' };
    expect(decideBySchedule(NIGHTS, asleep, outside)).toBeNull();
    expect(decideBySchedule(NIGHTS, { ...ready, status: 'hibernating' }, inside)).toBeNull();
    expect(decideBySchedule(NIGHTS, { ...ready, status: 'booting' }, inside)).toBeNull();
  });
});

describe('a time zone', () => {
  it('is one of the IANA database', () => {
    expect(isTimeZone('Europe/Stockholm')).toBe(true);
    expect(isTimeZone('UTC')).toBe(true);
    expect(isTimeZone('Mars/Olympus')).toBe(false);
  });
});
