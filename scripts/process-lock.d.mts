export type ReleaseLock = () => Promise<void>;
export function acquireProcessLock(
  name: string,
  options?: { onWait?: () => void; signal?: AbortSignal },
): Promise<ReleaseLock>;
export function tryProcessLock(name: string): Promise<ReleaseLock | null>;
