/**
 * The crash point of a running program: nothing, unless a module given to node by --import has put a hook on the global object. The
 * crash matrix does that, and operation children inherit the flag; production has no code of it.
 */
import type { CrashPoint } from '../domain/crash-points.ts';

export const crashPoint: CrashPoint = (name) => {
  (globalThis as { musterCrashPoint?: CrashPoint }).musterCrashPoint?.(name);
};
