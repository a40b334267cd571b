/**
 * Money as `MicroUsd`: an integer count of millionths of a US dollar, the only scale above the wire.
 * Vendor floats are converted once, at the wire; accruals are rounded down once, when they are read.
 */
export type MicroUsd = bigint;

export const MICRO_PER_USD = 1_000_000n;
const MS_PER_HOUR = 3_600_000n;

/**
 * Parses a decimal string of dollars ("0.60"), up to six decimals, not negative.
 * @returns null where the text is not such a number (the caller names the field).
 */
export function parseUsd(text: string): MicroUsd | null {
  const match = /^(\d{1,9})(?:\.(\d{1,6}))?$/.exec(text);
  if (!match) return null;
  return BigInt(match[1] as string) * MICRO_PER_USD + BigInt((match[2] ?? '').padEnd(6, '0'));
}

/**
 * A vendor's floating-point dollars as micro-dollars, rounded up so that a price is never shown too low.
 * Float noise below a thousandth of a micro-dollar is ignored. @returns null for what is no finite, non-negative number.
 */
export function microUsdFromVendorFloat(dollars: unknown): MicroUsd | null {
  if (typeof dollars !== 'number' || !Number.isFinite(dollars) || dollars < 0 || dollars > 1e9) return null;
  return BigInt(Math.ceil(Number((dollars * 1e6).toFixed(3))));
}

/** `1234567n` → "1.234567"; trailing zeros are cut down to two decimals. */
export function formatUsd(amount: MicroUsd): string {
  const sign = amount < 0n ? '-' : '';
  const absolute = amount < 0n ? -amount : amount;
  const fraction = (absolute % MICRO_PER_USD)
    .toString()
    .padStart(6, '0')
    .replace(/0{1,4}$/, '');
  return `${sign}${absolute / MICRO_PER_USD}.${fraction}`;
}

/** What `ms` milliseconds cost at `pricePerHour`, rounded down. Negative durations cost nothing. */
export function accrue(pricePerHour: MicroUsd, ms: number): MicroUsd {
  if (!(ms > 0)) return 0n;
  return (pricePerHour * BigInt(Math.floor(ms))) / MS_PER_HOUR;
}

/** Price for 30 days of 24 hours. */
export function per30Days(pricePerHour: MicroUsd): MicroUsd {
  return pricePerHour * 720n;
}
