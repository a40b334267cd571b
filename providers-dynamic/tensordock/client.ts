/**
 * The client of one TensorDock account, at the vendor's own wire (API v2). The contract is provider-client.ts; what answers mean
 * is in wire.ts, offers.ts and errors.ts. It repeats only calls that the vendor's rate limit turned away, never a purchase.
 */
import { createHash } from 'node:crypto';
import { canonicalGpuKey } from '../../domain/offer.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import { isObject } from '../http.ts';
import type { OfferQuery, ProviderClient, ProviderSettings, PurchaseOrder, RateLimiter } from '../provider-client.ts';
import { createRowCompletion } from './instance-details.ts';
import { readOffers } from './offers.ts';
import { checkOrder, purchaseBody, secretsOf } from './order.ts';
import { createSender } from './sender.ts';
import * as wire from './wire.ts';
import { text } from './wire-value.ts';

const DEFAULT_DISK_GIB = 40;

export function createTensordockClient(settings: ProviderSettings, limiter: RateLimiter): ProviderClient {
  const send = createSender(settings, limiter);
  const get = (path: string, signal: AbortSignal | undefined): Promise<unknown> =>
    send({ kind: 'read', method: 'GET', path, signal });
  const listRows = async (signal: AbortSignal | undefined) => wire.readInstanceList(await get('/instances', signal));
  const readRow = async (id: string, signal: AbortSignal | undefined): Promise<wire.InstanceRow | null> => {
    const reply = await orNotFound(get(`/instances/${vendorId(id)}`, signal));
    return reply === null ? null : wire.readInstanceReply(reply, id);
  };
  const completeRows = createRowCompletion(readRow);
  const power = (id: string, action: 'start' | 'stop', signal: AbortSignal | undefined): Promise<unknown> =>
    send({ kind: 'write', method: 'POST', path: `/instances/${vendorId(id)}/${action}`, signal });

  return {
    provider: 'tensordock',
    capabilities: { interruptible: false, stop: true, attachKeys: false, relabel: false },

    async searchOffers(query: OfferQuery, signal?: AbortSignal) {
      if (query.interruptible === true) return [];
      const [hostnodes, locations] = await Promise.all([get('/hostnodes', signal), get('/locations', signal)]);
      return selectOffers(readOffers(hostnodes, locations, query.diskGib ?? DEFAULT_DISK_GIB), query);
    },

    async buy(order: PurchaseOrder, signal?: AbortSignal, beforeSending?: () => void) {
      checkOrder(order);
      const reply = await send({
        kind: 'purchase',
        method: 'POST',
        path: '/instances',
        body: purchaseBody(order),
        signal,
        secrets: secretsOf(order),
        beforeSending,
      });
      // Wrapped in `data` or not.
      const row = isObject(reply) && isObject(reply.data) ? reply.data : reply;
      const id = isObject(row) ? text(row.id) : null;
      if (id === null)
        throw new ProviderError('unknown', 'TensorDock accepted the purchase without naming the instance');
      return { providerInstanceId: id };
    },

    readInstance: async (id, signal) => (await readRow(id, signal))?.observed ?? null,
    listInstances: async (signal) => completeRows(await listRows(signal), signal),

    async findByLabel(label, signal) {
      const observed = (await listRows(signal)).map((row) => row.observed);
      return observed.filter((instance) => instance.label === label);
    },

    async destroy(id, signal) {
      const path = `/instances/${vendorId(id)}`;
      await orNotFound(send({ kind: 'write', method: 'DELETE', path, signal })).catch((error: unknown) => {
        throw asTryAgain(error);
      });
    },

    /** The vendor keeps the GPU reserved, and bills it, until it says `stoppeddisassociated`. */
    async stop(id, signal) {
      await unless(power(id, 'stop', signal), ({ message }) => /already stop|stoppeddisassociated/i.test(message));
    },

    async start(id, signal) {
      // A conflict is how "already running" is answered; one that says otherwise is passed on.
      await unless(power(id, 'start', signal), ({ message, httpStatus }) =>
        httpStatus === 409 ? !/must be stopped/i.test(message) : /already (?:running|starting)/i.test(message),
      );
    },

    setLabel: () => cannot('rename a machine'),
    changeBid: () => cannot('change a bid: it has no interruptible machines'),
    attachSshKey: () => cannot('let a key into a machine after its purchase'),

    async listAccountSshKeys(signal) {
      const keys: { id: string; publicKey: string }[] = [];
      for (const secret of wire.readSshSecrets(await get('/secrets', signal))) {
        const publicKey = secret.publicKey ?? wire.readSecretKey(await get(`/secrets/${vendorId(secret.id)}`, signal));
        if (publicKey !== null) keys.push({ id: secret.id, publicKey });
      }
      return keys;
    },

    async addAccountSshKey(publicKey, signal) {
      const attributes = { name: `muster-${digest(publicKey)}`, type: 'SSHKEY', value: publicKey };
      const body = { data: { type: 'secret', attributes } };
      await unless(send({ kind: 'write', method: 'POST', path: '/secrets', body, signal }), ({ message }) =>
        /already exists/i.test(message),
      );
    },

    /** The API has no account: the list is what the token must be good for, and a digest of the token tells accounts apart. */
    async readAccount(signal) {
      await listRows(signal);
      return { accountId: `token-${digest(settings.apiKey)}`, creditMicroUsd: null };
    },
  };
}

function selectOffers(offers: ReturnType<typeof readOffers>, query: OfferQuery): ReturnType<typeof readOffers> {
  const { gpuCount, maxPriceMicroUsdPerHour: highest } = query;
  const gpuKey = query.gpu === undefined ? null : canonicalGpuKey(query.gpu);
  return offers
    .filter((offer) => gpuKey === null || canonicalGpuKey(offer.gpu) === gpuKey)
    .filter((offer) => gpuCount === undefined || offer.gpuCount === gpuCount)
    .filter((offer) => highest === undefined || offer.priceMicroUsdPerHour <= highest)
    .toSorted((a, b) => Number(a.priceMicroUsdPerHour - b.priceMicroUsdPerHour))
    .slice(0, query.limit);
}

async function orNotFound(reply: Promise<unknown>): Promise<unknown> {
  return reply.catch((error: unknown) => {
    if (error instanceof ProviderError && error.kind === 'not_found') return null;
    throw error;
  });
}

/** A refusal that says that what was asked for is so already is success. */
async function unless(reply: Promise<unknown>, isSoAlready: (refusal: ProviderError) => boolean): Promise<void> {
  await reply.catch((error: unknown) => {
    if (!(error instanceof ProviderError) || !isSoAlready(error)) throw error;
  });
}

/** A machine that bills is never left alone because of an odd refusal ("cannot be deleted while starting"). */
function asTryAgain(error: unknown): unknown {
  if (!(error instanceof ProviderError)) return error;
  const isForGood = error.kind === 'invalid' || error.kind === 'no_capacity' || error.kind === 'billing';
  return isForGood ? new ProviderError('retryable', error.message, { cause: error }) : error;
}

function cannot(what: string): Promise<never> {
  return Promise.reject(new ProviderError('invalid', `TensorDock cannot ${what}`));
}

/** Ids are UUIDs at the vendor; anything else must not become part of a path. */
function vendorId(id: string): string {
  if (!/^[A-Za-z0-9-]{1,64}$/.test(id))
    throw new ProviderError(
      'invalid',
      `"${id.slice(0, 100)}" is no id of TensorDock (letters, digits and dashes only)`,
    );
  return id;
}

function digest(value: string): string {
  return createHash('sha256').update(value).digest('hex').slice(0, 12);
}
