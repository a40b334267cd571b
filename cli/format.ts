/** Values as people read them: dollars, times, yes and no. Amounts arrive as whole micro-dollars and stay whole until they are text. */

const MICRO_PER_USD = 1_000_000;
const HOURS_PER_30_DAYS = 720;

/** 345000 → "$0.345"; at least two decimals, at most four, rounded up so that a price never looks lower than it is. */
export function formatMicroUsd(amount: number | null): string {
  if (amount === null) return '-';
  const tenThousandths = Math.ceil(Math.abs(amount) / 100);
  const text = String(tenThousandths).padStart(5, '0');
  const decimals = text.slice(-4).replace(/0{1,2}$/, '');
  return `${amount < 0 ? '-' : ''}$${text.slice(0, -4)}.${decimals}`;
}

/** Dollars with cents, for sums: 248400000 → "$248.40". */
export function formatSum(amount: number | null): string {
  if (amount === null) return '-';
  const cents = String(Math.ceil(Math.abs(amount) / (MICRO_PER_USD / 100))).padStart(3, '0');
  return `${amount < 0 ? '-' : ''}$${cents.slice(0, -2)}.${cents.slice(-2)}`;
}

export function per30Days(microUsdPerHour: number | null): number | null {
  return microUsdPerHour === null ? null : microUsdPerHour * HOURS_PER_30_DAYS;
}

/** 95000 → "1m 35s": the two largest units. */
export function formatSpan(ms: number | null): string {
  if (ms === null) return '-';
  const seconds = Math.max(0, Math.round(ms / 1000));
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return '0s';
  const shown = parts.slice(first, first + 2).filter(([count]) => count > 0);
  return shown.map(([count, unit]) => `${count}${unit}`).join(' ');
}

export function formatAge(time: string | null, now: number): string {
  return time === null ? '-' : formatSpan(now - Date.parse(time));
}

/** 0.987 → "98.7 %". */
export function formatShare(share: number | null): string {
  return share === null ? '-' : `${(share * 100).toFixed(1)} %`;
}

export function orDash(value: string | number | null | undefined): string {
  return value === null || value === undefined || value === '' ? '-' : String(value);
}

/** Text of a server without control characters, which could rewrite a terminal. */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- these are what is taken out
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '');
}
