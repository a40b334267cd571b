/** Durations as people write them: "12 hours", "90 seconds", "15m". */
const UNIT_MS: Record<string, number> = {
  ms: 1,
  millisecond: 1,
  s: 1000,
  second: 1000,
  m: 60_000,
  minute: 60_000,
  h: 3_600_000,
  hour: 3_600_000,
  d: 86_400_000,
  day: 86_400_000,
};

/** Milliseconds; null for what is no duration. A bare number has no unit and is refused. */
export function parseDuration(text: string): number | null {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)\s*([a-z]+)$/i.exec(text.trim());
  if (!match) return null;
  const word = (match[2] as string).toLowerCase();
  const name = [word, word.replace(/s$/, '')].find((one) => Object.hasOwn(UNIT_MS, one));
  return name === undefined ? null : Math.round(Number(match[1]) * (UNIT_MS[name] as number));
}

/** The largest unit that divides it: 43200000 → "12 hours". */
export function formatDuration(ms: number): string {
  for (const unit of ['day', 'hour', 'minute', 'second'] as const) {
    const size = UNIT_MS[unit] as number;
    if (ms >= size && ms % size === 0) return `${ms / size} ${unit}${ms === size ? '' : 's'}`;
  }
  return `${ms} ms`;
}
