/**
 * Declared activity: a file that workloads touch to say that they are busy though no GPU is (README of the agent). One that is touched
 * into the future counts as touched now for as long. Ages are told, never times: clocks of machines differ.
 */
import { statSync } from 'node:fs';

/** undefined: not known, the file cannot be looked at. `declaredAgoMs` null: none was ever declared. Never throws. */
export function readActivity(file: string): { declaredAgoMs: number | null } | undefined {
  try {
    return { declaredAgoMs: Math.max(0, Math.round(Date.now() - statSync(file).mtimeMs)) };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' || code === 'ENOTDIR' ? { declaredAgoMs: null } : undefined;
  }
}
