/**
 * The time of machines: a clock that only the script moves, and what sleeps by it. Agents wake in the order of their alarms, one after
 * the other, so that a seed gives the same life again. The control plane's clock is another one, and may jump.
 */
export interface MachineTime {
  nowMs(): number;
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Moves the clock; nothing wakes yet. */
  pass(ms: number): void;
  /** Wakes whatever was to wake by now, and waits until `isQuiet` after each. */
  wakeDue(settled: () => Promise<void>): Promise<void>;
  /** When the next alarm is; Infinity: there is none. */
  nextAlarm(): number;
}

interface Alarm {
  at: number;
  order: number;
  ring: () => void;
}

export function createMachineTime(): MachineTime {
  let now = 1_000_000;
  let count = 0;
  const alarms = new Set<Alarm>();
  const first = (): Alarm | undefined => [...alarms].sort((a, b) => a.at - b.at || a.order - b.order)[0];
  return {
    nowMs: () => now,
    sleep(ms, signal) {
      return new Promise((resolve) => {
        if (signal?.aborted) return resolve();
        const alarm: Alarm = {
          at: now + Math.max(0, ms),
          order: count++,
          ring() {
            alarms.delete(alarm);
            signal?.removeEventListener('abort', alarm.ring);
            resolve();
          },
        };
        if (alarm.at !== Infinity) alarms.add(alarm);
        signal?.addEventListener('abort', alarm.ring, { once: true });
      });
    },
    pass(ms) {
      now += ms;
    },
    async wakeDue(settled) {
      const seen = count;
      for (let alarm = first(); alarm && alarm.at <= now; alarm = first()) {
        // What begins to sleep while others wake, for no time at all, waits for the next moment.
        if (alarm.order >= seen && alarm.at === now) break;
        alarm.ring();
        await settled();
      }
    },
    nextAlarm: () => first()?.at ?? Infinity,
  };
}
