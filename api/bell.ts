/** A bell: whoever waits for a word hears it, also one that came while he was busy. */
export interface Bell {
  ring: () => void;
  /** Until the next ring (one that came meanwhile counts) or `ms`. @returns whether it rang */
  wait(ms: number): Promise<boolean>;
}

export function createBell(): Bell {
  let hasRung = false;
  let waiting: (() => void) | null = null;
  return {
    ring: () => {
      hasRung = true;
      waiting?.();
    },
    async wait(ms) {
      if (!hasRung) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, ms);
          waiting = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
      waiting = null;
      const isRung = hasRung;
      hasRung = false;
      return isRung;
    },
  };
}
