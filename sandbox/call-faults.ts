/** What a fault makes of one call's answer, the same for every vendor; the words of an answer are the vendor's own. */
import type { Fault } from './faults.ts';
import type { HttpReply } from './http-listener.ts';

/** `cut`: the connection is closed without an answer; `silence`: it stays open without one. */
export type CallOutcome = HttpReply | 'cut' | 'silence';

export interface VendorWords {
  /** The body of a 5xx in the vendor's form. */
  outageBody: unknown;
  /** A believable answer with this share of its rows, and no next page. */
  keepRows: (body: unknown, share: number) => unknown;
}

export const DEFAULT_FAULT_DELAY_MS = 1000;
const DEFAULT_FAULT_STATUS = 503;
const HTML_PAGE = '<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>';

/** What a fault makes of an answer after the vendor has acted. */
export function distortReply(reply: CallOutcome, fault: Fault, words: VendorWords): CallOutcome {
  if (typeof reply === 'string') return reply;
  switch (fault.kind) {
    case 'lose_response':
      return 'cut';
    case 'execute_then_timeout':
      return 'silence';
    case 'execute_then_status':
      return toFaultReply(fault, words);
    case 'malformed': {
      const json = JSON.stringify(reply.body);
      const headers = { 'content-type': 'application/json' };
      return { ...reply, body: json.slice(0, Math.ceil(json.length / 2)), headers };
    }
    case 'empty':
      return { ...reply, body: words.keepRows(reply.body, 0) };
    case 'shrink':
      return { ...reply, body: words.keepRows(reply.body, fault.keepShare ?? 0.5) };
    default:
      return reply;
  }
}

export function toFaultReply(fault: Fault, words: VendorWords): HttpReply {
  return { status: fault.status ?? DEFAULT_FAULT_STATUS, body: fault.body ?? words.outageBody };
}

export function toHtmlReply(fault: Fault): HttpReply {
  return { status: fault.status ?? 200, body: HTML_PAGE, headers: { 'content-type': 'text/html' } };
}
