/**
 * The kinds of value that a setting may have: each parser takes the text of a variable and gives the value, or undefined where
 * the text is not allowed. What the settings are called and mean stands in config.ts.
 */
import { parseDuration } from './domain/duration.ts';

/** A value that must not be seen: printing, logging or serialising it gives `[secret]`; only `reveal` gives the text. */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return '[secret]';
  }

  toJSON(): string {
    return '[secret]';
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[secret]';
  }
}

export type Parse<T> = (text: string) => T | undefined;

export function integer(min: number, max: number): Parse<number> {
  return (text) => {
    if (!/^\d{1,15}$/.test(text)) return undefined;
    const value = Number(text);
    return value >= min && value <= max ? value : undefined;
  };
}

export function oneOf<const T extends string>(...values: readonly T[]): Parse<T> {
  return (text) => values.find((value) => value === text);
}

/** A comma-separated list of some of `values`, in their order, at least one. */
export function someOf<const T extends string>(...values: readonly T[]): Parse<readonly T[]> {
  return (text) => {
    const named = text.split(',').map((part) => part.trim());
    if (named.some((part) => !values.some((value) => value === part))) return undefined;
    return values.filter((value) => named.includes(value));
  };
}

export function matching(pattern: RegExp): Parse<string> {
  return (text) => (pattern.test(text) ? text : undefined);
}

export function secret(isAllowed: (text: string) => boolean): Parse<Secret> {
  return (text) => (isAllowed(text) ? new Secret(text) : undefined);
}

/** Separated by commas or white space, at least one. */
export function secrets(isAllowed: (text: string) => boolean): Parse<readonly Secret[]> {
  return (text) => {
    const parts = text.split(/[\s,]+/).filter((part) => part !== '');
    return parts.length > 0 && parts.every(isAllowed) ? parts.map((part) => new Secret(part)) : undefined;
  };
}

/** "12 hours", "90 seconds", "15m" as milliseconds, both bounds inclusive. A bare number has no unit and is refused. */
export function duration(minMs: number, maxMs: number): Parse<number> {
  return (text) => {
    const ms = parseDuration(text);
    return ms !== null && ms >= minMs && ms <= maxMs ? ms : undefined;
  };
}

/** A base URL with nothing after host and port; without its trailing slash. */
export function origin(text: string): string | undefined {
  const url = parseUrl(text);
  if (!url || !isHttp(url) || url.username !== '' || url.password !== '') return undefined;
  return url.pathname === '/' && url.search === '' && url.hash === '' ? url.origin : undefined;
}

/** An http or https URL that may have a path; without its trailing slash. */
export function httpUrl(text: string): string | undefined {
  const url = parseUrl(text);
  if (!url || !isHttp(url) || url.username !== '' || url.password !== '') return undefined;
  return url.search === '' && url.hash === '' ? url.href.replace(/\/$/, '') : undefined;
}

const SSL_MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'];

export function isPostgresUrl(text: string): boolean {
  const url = parseUrl(text);
  if (!url || !['postgres:', 'postgresql:'].includes(url.protocol)) return false;
  const sslMode = url.searchParams.get('sslmode');
  return sslMode === null || SSL_MODES.includes(sslMode);
}

/** Whether the rows would cross a network in clear: another host, and a mode that does not insist on TLS. */
export function isRemoteWithoutTls(postgresUrl: string): boolean {
  const url = new URL(postgresUrl);
  const host = url.searchParams.get('host') ?? decodeURIComponent(url.hostname);
  if (host === '' || host.startsWith('/') || isLoopback(host)) return false;
  return !SSL_MODES.slice(3).includes(url.searchParams.get('sslmode') ?? 'disable');
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** `documented`, `off`, or JSON of seconds per endpoint. */
export type RateLimits = 'documented' | 'off' | Readonly<Record<string, number>>;

export function rateLimits(text: string): RateLimits | undefined {
  if (text === 'documented' || text === 'off') return text;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const isSeconds = (seconds: unknown) => typeof seconds === 'number' && seconds >= 0 && seconds <= 3600;
  return Object.values(value).every(isSeconds) ? (value as Record<string, number>) : undefined;
}

function parseUrl(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined;
}

function isHttp(url: URL): boolean {
  return url.protocol === 'http:' || url.protocol === 'https:';
}
