/** How values of rows appear in replies: times as RFC 3339, money as JSON numbers. */

export function iso(time: Date): string {
  return time.toISOString();
}

export function isoOrNull(time: Date | null): string | null {
  return time === null ? null : time.toISOString();
}

/** Micro-dollars are far below 2^53 ($9 billion). */
export function micro(amount: bigint): number {
  return Number(amount);
}

export function microOrNull(amount: bigint | null): number | null {
  return amount === null ? null : Number(amount);
}
