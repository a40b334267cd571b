/**
 * An event stream: one client's Server-Sent Events. It is pulled: a page is read from the tables after the last position sent, and
 * the next only when the client has taken it, so a slow client costs a bounded buffer and loses nothing.
 */
import type { Request, Response } from 'express';
import { createBell, type Bell } from './bell.ts';

const PAGE = 200;
/** A client that takes nothing for so long is gone. */
const STALLED_MS = 60_000;
/** Looking again without a word: the price of a lost one. */
const LOOK_AGAIN_MS = 5_000;
/** Looking again for what was committed but may not be read yet (event-feed.ts). */
const UNSETTLED_MS = 50;
const DEFAULT_HEARTBEAT_MS = 15_000;

export interface StreamEvent {
  /** Comes back as Last-Event-ID. */
  id: string;
  type: string;
  data: unknown;
}

export interface StreamPage {
  events: StreamEvent[];
  /** `more` is there now · `wait` for a word · `soon` look again shortly · `end` nothing will ever come. */
  next: 'more' | 'wait' | 'soon' | 'end';
}

export interface StreamSource {
  /** The page after what was read before. */
  read(limit: number): Promise<StreamPage>;
  /** Calls `wake` when there may be something new. Returns how to stop it. */
  subscribe(wake: () => void): () => void;
  isClosed(): boolean;
}

/** Ends when the source does, the client goes, or the server closes. Never throws once the head is sent. */
export async function sendEvents(
  request: Request,
  response: Response,
  source: StreamSource,
  heartbeatMs: number = DEFAULT_HEARTBEAT_MS,
): Promise<void> {
  const bell = createBell();
  response.on('close', bell.ring);
  const stop = source.subscribe(bell.ring);
  let heartbeat: NodeJS.Timeout | undefined;
  try {
    const first = await source.read(PAGE); // before the head: what fails now is still a problem document
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    });
    response.flushHeaders();
    heartbeat = setInterval(() => {
      if (!response.writableNeedDrain) response.write(': heartbeat\n\n');
    }, heartbeatMs);
    await pump(response, source, first, bell);
    if (!response.destroyed) response.end();
  } catch (error) {
    if (!response.headersSent) throw error;
    request.log.warn({ err: error }, 'event stream broken off');
    response.destroy(); // the client comes back with Last-Event-ID
  } finally {
    clearInterval(heartbeat);
    stop();
  }
}

async function pump(response: Response, source: StreamSource, first: StreamPage, bell: Bell): Promise<void> {
  let page = first;
  for (;;) {
    for (const event of page.events) response.write(formatEvent(event));
    if (response.writableNeedDrain) await drained(response);
    if (response.destroyed || source.isClosed()) return;
    if (page.next === 'end') {
      response.write('event: end\ndata: {}\n\n');
      return;
    }
    if (page.next !== 'more') await bell.wait(page.next === 'soon' ? UNSETTLED_MS : LOOK_AGAIN_MS);
    if (response.destroyed || source.isClosed()) return;
    page = await source.read(PAGE);
  }
}

function formatEvent(event: StreamEvent): string {
  return `id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(event.data)}\n\n`;
}

function drained(response: Response): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => response.destroy(), STALLED_MS);
    const done = () => {
      clearTimeout(timer);
      response.off('drain', done).off('close', done);
      resolve();
    };
    response.on('drain', done).on('close', done);
  });
}
