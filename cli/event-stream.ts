/**
 * Server-Sent Events as an endless sequence: a connection that breaks is opened again with the id of the last event seen, so that none
 * is missed and none comes twice. What the events mean is the caller's.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { ApiError, ConnectionError } from './api-client.ts';
import type { ApiClient } from './api-client.ts';

export interface StreamEvent {
  id: string | null;
  event: string;
  data: string;
}

export interface FollowOptions {
  readonly signal: AbortSignal;
  /** Told once for each time the connection is lost. */
  readonly onLost?: () => void;
}

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 5_000;
/** The server gives a sign of life every 15 s. */
const LONGEST_SILENCE_MS = 45_000;
/** A control plane that is away for longer is not restarting. */
const GIVE_UP_AFTER_MS = 120_000;

/**
 * The events at `path` from the first one on, until the server says that there will be no more (an event `end`; a stream that only stops
 * is a server that goes down) or `signal` aborts. Throws ApiError where the API refuses, and
 * ConnectionError when it stays away for two minutes.
 */
export async function* followEvents(api: ApiClient, path: string, options: FollowOptions): AsyncGenerator<StreamEvent> {
  const { signal } = options;
  let lastEventId: string | null = null;
  let wait = FIRST_WAIT_MS;
  let lostAt: number | null = null;
  while (!signal.aborted) {
    try {
      const connection = watchSilence(signal);
      const response = await api.openStream(path, lastEventId, connection.signal);
      for await (const event of parseEvents(response, connection.heard)) {
        if (event.event === 'end') return;
        lostAt = null;
        wait = FIRST_WAIT_MS;
        if (event.id !== null) lastEventId = event.id;
        yield event;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!isPassing(error)) throw error;
      // Nobody was ever there: an address that is wrong, not a restart.
      if (lastEventId === null && lostAt === null && error instanceof ConnectionError && error.isRefused) throw error;
      if (lostAt === null) options.onLost?.();
      lostAt ??= Date.now();
      if (Date.now() - lostAt > GIVE_UP_AFTER_MS) throw error;
    }
    await pause(wait, undefined, { signal }).catch(() => {});
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }
}

/** A signal that also aborts, as a lost connection, when nothing was heard for too long: a network that fell silent tells nobody. */
function watchSilence(outer: AbortSignal): { signal: AbortSignal; heard: () => void } {
  const silent = new AbortController();
  const timer = setTimeout(() => silent.abort(), LONGEST_SILENCE_MS);
  timer.unref();
  return { signal: AbortSignal.any([outer, silent.signal]), heard: () => void timer.refresh() };
}

function isPassing(error: unknown): boolean {
  if (error instanceof ApiError) return error.status >= 500 || error.status === 429;
  // A body that breaks off ("terminated") is a TypeError of fetch; an AbortError that is not the person's is our own, for silence.
  return error instanceof ConnectionError || error instanceof TypeError || (error as Error).name === 'AbortError';
}

/** The events of one connection. Comments (the server's sign of life) are skipped. */
export async function* parseEvents(response: Response, heard: () => void = () => {}): AsyncGenerator<StreamEvent> {
  if (response.body === null) return;
  const decoder = new TextDecoder();
  let rest = '';
  let fields = emptyFields();
  for await (const chunk of response.body) {
    heard();
    const lines = (rest + decoder.decode(chunk, { stream: true })).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') {
        if (fields.data.length > 0) yield { id: fields.id, event: fields.event, data: fields.data.join('\n') };
        fields = emptyFields();
      } else {
        readField(fields, line);
      }
    }
  }
}

interface Fields {
  id: string | null;
  event: string;
  data: string[];
}

function emptyFields(): Fields {
  return { id: null, event: 'message', data: [] };
}

function readField(fields: Fields, line: string): void {
  const colon = line.indexOf(':');
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
  if (name === 'id') fields.id = value;
  if (name === 'event') fields.event = value;
  if (name === 'data') fields.data.push(value);
}
