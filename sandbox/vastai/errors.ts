/** The simulated vendor's refusals, in its own words. Sources: shared contract of the vendor's API, section 1 and 3. */
import type { HttpReply } from '../http-listener.ts';
import type { VastaiSwitches } from './switches.ts';

/** Thrown by handlers; becomes the answer. */
export class VastaiError extends Error {
  readonly reply: HttpReply;
  constructor(reply: HttpReply) {
    super(`vast.ai answers ${reply.status}`);
    this.name = 'VastaiError';
    this.reply = reply;
  }
}

export function refusal(status: number, error: string, msg: string, extra: object = {}): VastaiError {
  return new VastaiError({ status, body: { success: false, error, msg, ...extra } });
}

export function authReply(switches: VastaiSwitches): HttpReply {
  return {
    status: switches.authFailureStatus,
    body: { success: false, error: 'auth_error', msg: 'Invalid user key' },
  };
}

export function noSuchInstance(id: number | string): VastaiError {
  return refusal(404, 'no_such_instance', `Instance ${id} not found.`);
}

/** An offer that never was. */
export function unknownAsk(offerId: number): HttpReply {
  return {
    status: 404,
    body: {
      success: false,
      error: 'invalid_args',
      msg: `error 404/3603: no_such_ask Instance type by id ${offerId} is not available.`,
      ask_id: offerId,
    },
  };
}

/** An offer that somebody else was faster to take. */
export function goneAsk(offerId: number, status: VastaiSwitches['raceStatus']): HttpReply {
  if (status === 404) return unknownAsk(offerId);
  return {
    status,
    body: {
      success: false,
      error: 'no_such_ask',
      msg: `error ${status}/3907: no_such_ask Instance type ${offerId} is no longer available.`,
      ask_id: offerId,
    },
  };
}
