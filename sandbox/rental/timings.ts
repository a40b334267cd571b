/** How long things take at a simulated vendor. Only `real` differs between vendors: it follows the vendor's contract. */
import type { TimeMode } from '../clock.ts';

export type Range = readonly [fromMs: number, toMs: number];

export interface RentalTimings {
  /** From purchase to running. */
  boot: Range;
  /** From start or restart to running. */
  restart: Range;
  stop: Range;
  /** From the destroy call to being gone. */
  terminate: Range;
  /** From running until SSH answers. */
  sshDelayMs: number;
}

const QUICK: RentalTimings = {
  boot: [2000, 8000],
  restart: [1000, 3000],
  stop: [300, 800],
  terminate: [300, 800],
  sshDelayMs: 0,
};

export function timingsOf(mode: TimeMode, real: RentalTimings): RentalTimings {
  return mode === 'real' ? real : QUICK;
}
