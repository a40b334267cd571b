/** Calls to TensorDock's API v2: which are good answers (errors come with status 200 too), and how long they may take. */
import type { HttpReply } from '../http.ts';
import type { ProviderSettings, RateLimiter } from '../provider-client.ts';
import { createVendorSender, type Send, type VendorCall } from '../vendor-sender.ts';
import { classifyTensordockError, isErrorBody } from './errors.ts';

const BASE_PATH = '/api/v2';

/** A purchase is answered when the machine is placed: 12 to 60 s are usual. */
const PURCHASE_TIMEOUT_FACTOR = 2;

export type TensordockSend = Send<VendorCall>;

/** @returns undefined for a good answer without a body, which only a `write` may have */
export function createSender(settings: ProviderSettings, limiter: RateLimiter): TensordockSend {
  const send = createVendorSender<VendorCall>(settings, limiter, {
    provider: 'tensordock',
    title: 'TensorDock',
    lanesOf: () => ['api'],
    isAnswer,
    classify: ({ kind }, reply) => classifyTensordockError(kind, reply),
    rateLimitPauseMs: 2_000,
    purchaseTimeoutFactor: PURCHASE_TIMEOUT_FACTOR,
  });
  return (call) => send({ ...call, path: BASE_PATH + call.path });
}

function isAnswer({ kind }: VendorCall, reply: HttpReply): boolean {
  if (reply.status < 200 || reply.status > 299) return false;
  if (reply.json === undefined) return kind === 'write' && reply.text.trim() === '';
  return !isErrorBody(reply.json);
}
