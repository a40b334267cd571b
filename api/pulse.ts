/** The API's pulse: while it listens it says so every second, so that a silent node can be told from an outage of ours (db/pulses.ts). */
import type { Db } from '../db/database.ts';
import { beatPulse, PULSE_MS } from '../db/pulses.ts';

/** From now on, until it is stopped. A beat that the database does not take is left out: then nobody's heartbeat was taken either. */
export function startPulse(db: Db): { stop(): Promise<void> } {
  let underWay: Promise<void> | null = null;
  const beat = () => {
    underWay ??= beatPulse(db)
      .catch(() => {})
      .finally(() => (underWay = null));
  };
  beat();
  const timer = setInterval(beat, PULSE_MS);
  return {
    async stop() {
      clearInterval(timer);
      await underWay;
    },
  };
}
