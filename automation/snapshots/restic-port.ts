/** restic, as the worker uses it; agent/snapshots/run-restic.ts is it, main.ts brings it here. */
import type { Readable } from 'node:stream';

export interface ResticRun {
  args: readonly string[];
  env: Readonly<Record<string, string>>;
  signal: AbortSignal;
  onLine?: (line: string) => void;
  consume?: (output: Readable) => Promise<void>;
}

export interface ResticOutcome {
  /** null: it was ended. */
  code: number | null;
  /** What it said of errors, without secrets. */
  trouble: string;
  ended: 'asked' | 'missing' | 'unreachable' | null;
}

export interface ResticPort {
  version: string;
  run(run: ResticRun): Promise<ResticOutcome>;
}

export interface StoreKey {
  accessKeyId: string;
  secretAccessKey: string;
}

/** What operations on snapshots work with; made once per process. */
export interface SnapshotServices {
  /** Throws MusterError `unavailable` where there is no restic. */
  restic(): Promise<ResticPort>;
  /** Where new repositories are made (domain/snapshots/store.ts). */
  storeUrl: string;
  /** Of the bucket; null: a folder. */
  storeKey: StoreKey | null;
  /** Whether nodes go to the bucket themselves where it gives short-lived keys, or through us. */
  access: 'gateway' | 'direct';
  /** Short-lived keys of the bucket for one repository; null: the store gives none. */
  issueKey: ((request: KeyRequest) => Promise<Record<string, string>>) | null;
  /** Readings at once, each of several processes: the others wait for their turn. */
  readBacks: Slots;
  /** SHA-256 of the restic for nodes, by platform. */
  resticDigests(): Promise<Record<string, string>>;
}

export interface KeyRequest {
  storeUrl: string;
  /** Below the store's prefix. */
  repository: string;
  access: 'read' | 'write';
  lifetimeMs: number;
}

export interface Slots {
  /** Does `work` where a slot is free; null: none is. */
  use<T>(work: () => Promise<T>): Promise<T> | null;
}

export function createSlots(count: number): Slots {
  let used = 0;
  return {
    use(work) {
      if (used >= count) return null;
      used++;
      return work().finally(() => used--);
    },
  };
}
