/**
 * What the simulated vendor charges, in whole micro-USD, so that a test can compare it with what we recorded.
 * Per machine: the GPU part only while it runs, storage as long as the contract exists, nothing while the host is
 * offline. Bandwidth is not charged.
 */

export interface Meter {
  chargedMicroUsd: number;
  /** What is owed below one micro-USD, in micro-USD × milliseconds per hour; nothing is ever rounded away. */
  remainder: number;
  /** Up to when it is charged. */
  chargedUntilMs: number;
  /** What it costs per hour from then on. */
  microUsdPerHour: number;
}

const MS_PER_HOUR = 3_600_000n;

export function startMeter(atMs: number, microUsdPerHour: number): Meter {
  return { chargedMicroUsd: 0, remainder: 0, chargedUntilMs: atMs, microUsdPerHour };
}

/** Charges up to `atMs` and goes on at the given rate. */
export function changeRate(meter: Meter, atMs: number, microUsdPerHour: number): void {
  Object.assign(meter, readMeter(meter, atMs), { microUsdPerHour });
}

/** The meter as it stands at `atMs`, without changing it. */
export function readMeter(meter: Meter, atMs: number): Meter {
  if (atMs <= meter.chargedUntilMs) return meter;
  // BigInt: a year at $100/h is beyond 2^53 in this scale.
  const owed =
    BigInt(meter.microUsdPerHour) * BigInt(Math.floor(atMs - meter.chargedUntilMs)) + BigInt(meter.remainder);
  return {
    chargedMicroUsd: meter.chargedMicroUsd + Number(owed / MS_PER_HOUR),
    remainder: Number(owed % MS_PER_HOUR),
    chargedUntilMs: Math.floor(atMs),
    microUsdPerHour: meter.microUsdPerHour,
  };
}

/** Disk price of a contract: the vendor bills a month as 30 days. */
export function storageRate(diskGb: number, microUsdPerGbMonth: number): number {
  return Math.floor((diskGb * microUsdPerGbMonth) / 720);
}
