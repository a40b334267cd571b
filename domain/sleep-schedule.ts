/**
 * A sleep schedule: windows of the week, by the clock of a time zone, in which an instance sleeps. One that somebody woke or made within a
 * window is left alone until the next one. Wall clocks are compared, so that "20:00" stays 20:00 when summer time begins or ends.
 */
export const WEEKDAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const;
export type Weekday = (typeof WEEKDAYS)[number];

export interface SleepWindow {
  /** On which it begins. */
  days: readonly Weekday[];
  /** "HH:MM". `to` not after `from`: it ends on the day after. */
  from: string;
  to: string;
}

export interface SleepSchedule {
  /** Of the IANA database, such as "Europe/Stockholm". */
  timeZone: string;
  windows: readonly SleepWindow[];
  /** Whether it is woken when the window ends. */
  wake: boolean;
  /** Whether it is put to sleep though it works. */
  evenIfBusy: boolean;
}

export const CLOCK_TIME = /^([01]\d|2[0-3]):[0-5]\d$/;

export function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

export interface ScheduledInstance {
  status: string;
  /** Since when it is ready, or was woken last. */
  readyAt: number | null;
  /** Why it sleeps; null: it does not. */
  sleepCause: string | null;
}

/** What its schedule asks for now; null: nothing. */
export function decideBySchedule(
  schedule: SleepSchedule,
  instance: ScheduledInstance,
  now: number,
): 'hibernate' | 'wake' | null {
  const open = windowAt(schedule, now);
  if (instance.status === 'ready' && open !== null) {
    const isMadeWithin = instance.readyAt !== null && windowAt(schedule, instance.readyAt) === open;
    return isMadeWithin ? null : 'hibernate';
  }
  if (instance.status === 'hibernated' && open === null)
    return schedule.wake && instance.sleepCause === 'schedule' ? 'wake' : null;
  return null;
}

/** Names the window that is open at `moment`, the same for all of it; null: none is. */
export function windowAt(schedule: SleepSchedule, moment: number): string | null {
  const local = localTime(moment, schedule.timeZone);
  for (const [index, { days, from, to }] of schedule.windows.entries()) {
    const begins = days.includes(local.weekday);
    const began = days.includes(local.yesterday.weekday);
    const isOverMidnight = to <= from;
    if (begins && local.clock >= from && (isOverMidnight || local.clock < to)) return `${index} ${local.date}`;
    if (began && isOverMidnight && local.clock < to) return `${index} ${local.yesterday.date}`;
  }
  return null;
}

interface LocalDay {
  date: string;
  weekday: Weekday;
}

function localTime(moment: number, timeZone: string): LocalDay & { clock: string; yesterday: LocalDay } {
  const format = new Intl.DateTimeFormat('en-CA', {
    timeZone,
    hourCycle: 'h23',
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
  });
  const parts = Object.fromEntries(format.formatToParts(moment).map(({ type, value }) => [type, value]));
  const day = Date.UTC(Number(parts['year']), Number(parts['month']) - 1, Number(parts['day']));
  return {
    ...describeDay(day),
    clock: `${parts['hour']}:${parts['minute']}`,
    yesterday: describeDay(day - 86_400_000),
  };
}

function describeDay(utcMidnight: number): LocalDay {
  const date = new Date(utcMidnight);
  return { date: date.toISOString().slice(0, 10), weekday: WEEKDAYS[(date.getUTCDay() + 6) % 7] as Weekday };
}
