/**
 * The client of one Lambda Cloud account, at the vendor's own wire. The contract is provider-client.ts; what answers mean is in
 * wire.ts and errors.ts. The vendor has neither bids nor a stopped state, and takes keys at the launch only.
 */
import { createHash } from 'node:crypto';
import { canonicalGpuKey, type Offer } from '../../domain/offer.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import type { OfferQuery, ProviderClient, ProviderSettings, PurchaseOrder, RateLimiter } from '../provider-client.ts';
import { createAccountKeys } from './account-key.ts';
import { checkOrder, launchBody } from './order.ts';
import { createSender } from './sender.ts';
import * as wire from './wire.ts';

const API = '/api/v1';
/** 10,000 instances: no known account is near; more means that the pages go in circles. */
const MAX_PAGES = 200;
const INSTANCE_ID = /^[0-9a-zA-Z-]+$/;

export function createLambdaClient(settings: ProviderSettings, limiter: RateLimiter): ProviderClient {
  const send = createSender(settings, limiter);
  const keys = createAccountKeys(send);

  const get = (path: string, signal?: AbortSignal): Promise<unknown> =>
    send({ kind: 'read', method: 'GET', path: API + path, signal });

  /** null: gone, in whichever of the vendor's ways. */
  const read = async (id: string, signal?: AbortSignal): Promise<wire.LambdaInstance | null> => {
    const reply = await get(`/instances/${instanceId(id)}`, signal).catch(nullIfNotFound);
    if (reply === null) return null;
    const instance = wire.readInstanceReply(reply, id);
    return instance.isGone ? null : instance;
  };

  const listAll = async (signal?: AbortSignal): Promise<wire.LambdaInstance[]> => {
    const seen = new Map<string, wire.LambdaInstance>();
    const tokens = new Set<string>();
    for (let token: string | null = null; tokens.size < MAX_PAGES;) {
      const query = token === null ? '' : `?${new URLSearchParams({ page_token: token }).toString()}`;
      const page = wire.readInstancePage(await get(`/instances${query}`, signal));
      for (const instance of page.instances) seen.set(instance.providerInstanceId, instance);
      token = page.nextToken;
      if (token === null) return [...seen.values()].filter((instance) => !instance.isGone);
      if (tokens.has(token)) throw wire.unbelievable('the list repeats a page token');
      tokens.add(token);
    }
    throw wire.unbelievable(`the list has more than ${MAX_PAGES} pages`);
  };

  return {
    provider: 'lambda',
    capabilities: { interruptible: false, stop: false, attachKeys: false, relabel: false },

    async searchOffers(query: OfferQuery, signal?: AbortSignal) {
      if (query.interruptible === true) return [];
      const offers = wire.readOffers(await get('/instance-types', signal)).filter((offer) => fits(offer, query));
      return query.limit === undefined ? offers : offers.slice(0, query.limit);
    },

    async buy(order: PurchaseOrder, signal?: AbortSignal, beforeSending?: () => void) {
      checkOrder(order);
      const body = launchBody(order, await keys.ensure(order.sshPublicKeys[0] as string, signal));
      const path = `${API}/instance-operations/launch`;
      const secrets = Object.values(order.env);
      try {
        const reply = await send({ kind: 'purchase', method: 'POST', path, body, signal, secrets, beforeSending });
        const id = wire.readLaunchedId(reply);
        if (id === null) throw new ProviderError('unknown', 'Lambda accepted the launch without naming the instance');
        return { providerInstanceId: id };
      } catch (error) {
        // It may be the key that was not found.
        if (error instanceof ProviderError && error.httpStatus === 404) keys.forget();
        throw error;
      }
    },

    readInstance: read,
    listInstances: listAll,

    async findByLabel(label: string, signal?: AbortSignal) {
      return (await listAll(signal)).filter((instance) => instance.label === label);
    },

    async destroy(id: string, signal?: AbortSignal) {
      const path = `${API}/instance-operations/terminate`;
      const body = { instance_ids: [instanceId(id)] };
      for (let tried = 1; ; tried++) {
        let refusal: Error | null = null;
        try {
          const reply = await send({ kind: 'write', method: 'POST', path, body, signal });
          if (wire.namesTerminated(reply, id)) return;
        } catch (error) {
          if (isKind(error, 'not_found')) return;
          if (!isKind(error, 'invalid')) throw error;
          refusal = error as Error;
        }
        // Refused, or answered with an empty list, which was seen to work: what counts is the instance.
        const instance = await read(id, signal);
        if (instance === null || instance.isTerminating) return;
        if (refusal === null || instance.terminateRefusal !== null) {
          const why = instance.terminateRefusal ?? `it is ${instance.statusDetail} after a terminate that was answered`;
          throw new ProviderError('retryable', `Lambda does not terminate instance ${id} yet: ${why}`);
        }
        // It may have launched between the refusal and the look at it.
        if (tried === 2) throw refusal;
      }
    },

    stop: () => cannot('stop a machine: it can only be terminated'),
    start: () => cannot('start a machine: none is ever stopped'),
    setLabel: () => cannot('change the tag that carries the label'),
    changeBid: () => cannot('change a bid: it rents on demand only'),
    attachSshKey: () => cannot('let a key into a running machine: give every key with the order'),

    listAccountSshKeys: async (signal) => (await keys.list(signal)).map(({ id, publicKey }) => ({ id, publicKey })),
    addAccountSshKey: async (publicKey, signal) => void (await keys.ensure(publicKey, signal)),

    /** There is neither an account nor a balance in the API: a harmless read proves the key, whose digest names the account. */
    async readAccount(signal) {
      await keys.list(signal);
      const digest = createHash('sha256').update(settings.apiKey).digest('hex').slice(0, 12);
      return { accountId: `key-${digest}`, creditMicroUsd: null };
    },
  };
}

function fits(offer: Offer, { gpu, gpuCount, diskGib, maxPriceMicroUsdPerHour }: OfferQuery): boolean {
  if (gpu !== undefined && canonicalGpuKey(offer.gpu) !== canonicalGpuKey(gpu)) return false;
  if (gpuCount !== undefined && offer.gpuCount !== gpuCount) return false;
  if (diskGib !== undefined && offer.diskGib !== null && offer.diskGib < diskGib) return false;
  return maxPriceMicroUsdPerHour === undefined || offer.priceMicroUsdPerHour <= maxPriceMicroUsdPerHour;
}

function instanceId(id: string): string {
  if (!INSTANCE_ID.test(id))
    throw new ProviderError('invalid', `"${id}" is no id of a Lambda instance (letters, digits, dashes)`);
  return id;
}

function cannot(what: string): Promise<never> {
  return Promise.reject(new ProviderError('invalid', `Lambda cannot ${what}`));
}

function isKind(error: unknown, kind: ProviderError['kind']): boolean {
  return error instanceof ProviderError && error.kind === kind;
}

function nullIfNotFound(error: unknown): null {
  if (isKind(error, 'not_found')) return null;
  throw error;
}
