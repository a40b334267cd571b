/** What a workload makes on its machine: so many writes by each machine that had the workspace, in order. It is what snapshots are of. */
export type Work = { machine: string; writes: number }[];

export function addWrites(work: Work, machine: string, writes: number): void {
  const last = work.at(-1);
  if (last?.machine === machine) last.writes += writes;
  else work.push({ machine, writes });
}

/** In bytes, of which a write makes one. */
export function sizeOfWork(work: Work): number {
  return work.reduce((sum, one) => sum + one.writes, 0);
}

export function isSameWork(one: Work, other: Work): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
