/** The wire of a simulated vendor as data: its routes and its words. server.ts puts faults, limits and latency around it. */
import type { IncomingMessage } from 'node:http';
import type { VendorWords } from '../call-faults.ts';
import type { HttpReply } from '../http-listener.ts';

export interface RentalCall {
  /** What the route's pattern captured. */
  ids: string[];
  query: URLSearchParams;
  /** The JSON object of the request; empty without one. */
  body: Record<string, unknown>;
}

export interface RentalRoute<World> {
  method: string;
  /** On the path without its trailing slashes. */
  pattern: RegExp;
  /** Our name for it: faults, limits and counts go by it. It may depend on what the body asks for. */
  endpoint: string | ((call: RentalCall) => string);
  isPurchase?: true;
  isPublic?: true;
  /** The machines that the call is about, for routes that are about machines. */
  instanceIds?: (call: RentalCall) => string[];
  /** Answers at once; may throw VendorRefusal. */
  handle: (world: World, call: RentalCall) => HttpReply;
}

export interface RentalApi<World> extends VendorWords {
  routes: readonly RentalRoute<World>[];
  /** The refusal of a caller without the key; null lets it in. */
  authenticate(request: IncomingMessage, url: URL, apiKey: string): HttpReply | null;
  /** The call's object, or the refusal of a body that the vendor does not take. */
  parseBody(request: IncomingMessage, text: string): Record<string, unknown> | VendorRefusal;
  /** The label of a purchase's order. */
  labelOf(call: RentalCall): string;
  /** The 429 for this call, or null when it may pass; counts the call. */
  limit(world: World, endpoint: string): HttpReply | null;
  /** The vendor's 429, unasked for. */
  rejectForRate(world: World, endpoint: string): HttpReply;
  /** What the fault `refuse` answers, unless it says more: no capacity for a purchase. */
  refuse(world: World, endpoint: string, call: RentalCall): HttpReply;
  /** The fault `stale_offer`: what was to be bought is gone for everybody. */
  loseOffer(world: World, call: RentalCall): HttpReply;
  /** A path that is not there. */
  notFound(method: string, path: string): HttpReply;
  tooLarge: HttpReply;
  /** Headers that the vendor sends with every answer. */
  headers?(world: World, endpoint: string): Record<string, string>;
}

/** Thrown by handlers; becomes the answer. */
export class VendorRefusal extends Error {
  readonly reply: HttpReply;
  constructor(reply: HttpReply) {
    super(`the simulated vendor answers ${reply.status}`);
    this.name = 'VendorRefusal';
    this.reply = reply;
  }
}

/** Most vendors take any JSON object whatever its content type says; `refuse` words the complaint. */
export function parseJsonObject(
  text: string,
  refuse: (message: string) => VendorRefusal,
): Record<string, unknown> | VendorRefusal {
  if (text.trim() === '') return {};
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body as Record<string, unknown>;
  } catch {
    // Falls through.
  }
  return refuse('The request body is not a JSON object.');
}

/** The token of `Authorization: Bearer …`; null without one. */
export function readBearer(request: IncomingMessage): string | null {
  const header = request.headers.authorization;
  return header?.startsWith('Bearer ') ? header.slice('Bearer '.length) : null;
}
