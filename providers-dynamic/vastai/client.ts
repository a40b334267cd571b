/**
 * The client of one Vast.ai account, at the vendor's own wire. The contract is provider-client.ts; what answers mean is in
 * wire.ts and errors.ts. It repeats only reads and harmless writes that the vendor's rate limit turned away, never a purchase.
 */
import { canonicalGpuKey } from '../../domain/offer.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import { isObject, sendHttp, type Json } from '../http.ts';
import type { OfferQuery, ProviderClient, ProviderSettings, PurchaseOrder, RateLimiter } from '../provider-client.ts';
import { baseUrlOf } from '../vendor-sender.ts';
import { listAllInstances } from './instance-list.ts';
import { checkOrder, purchaseBody } from './order.ts';
import { createSender } from './sender.ts';
import * as wire from './wire.ts';

/** Without a limit the vendor returns a small page; this asks for everything, as gpuhunt does. */
const ALL_OFFERS = 3_000;
/** The vendor's list of GPU names changes with new hardware only. */
const GPU_NAMES_KEPT_MS = 3_600_000;

export function createVastaiClient(settings: ProviderSettings, limiter: RateLimiter): ProviderClient {
  const send = createSender(settings, limiter);
  const vendorGpuName = createGpuNames(settings);

  const change = (id: string, body: Json, signal: AbortSignal | undefined): Promise<unknown> =>
    send({
      endpoint: 'change',
      kind: 'write',
      method: 'PUT',
      path: `/api/v0/instances/${vendorId(id)}/`,
      body,
      signal,
    });

  return {
    provider: 'vastai',
    capabilities: { interruptible: true, stop: true, attachKeys: true, relabel: true },

    async searchOffers(query: OfferQuery, signal?: AbortSignal) {
      const body = searchBody(query, query.gpu === undefined ? undefined : await vendorGpuName(query.gpu, signal));
      const reply = await send({
        endpoint: 'search',
        kind: 'read',
        method: 'POST',
        path: '/api/v0/bundles/',
        body,
        signal,
      });
      const offers = wire.readOffers(reply, Number(body.allocated_storage), query.interruptible === true);
      const wanted = query.gpu === undefined ? null : canonicalGpuKey(query.gpu);
      return wanted === null ? offers : offers.filter((offer) => canonicalGpuKey(offer.gpu) === wanted);
    },

    async buy(order: PurchaseOrder, signal?: AbortSignal, beforeSending?: () => void) {
      checkOrder(order);
      const reply = await send({
        endpoint: 'create',
        kind: 'purchase',
        method: 'PUT',
        path: `/api/v0/asks/${vendorId(order.providerOfferId)}/`,
        body: purchaseBody(order),
        signal,
        secrets: Object.values(order.env),
        beforeSending,
      });
      const id = isObject(reply) ? wire.text(reply.new_contract) : null;
      if (id === null) throw new ProviderError('unknown', 'Vast.ai accepted the purchase without naming the instance');
      return { providerInstanceId: id };
    },

    async readInstance(id: string, signal?: AbortSignal) {
      const path = `/api/v0/instances/${vendorId(id)}/?owner=me`;
      const reply = await orNotFound(send({ endpoint: 'read', kind: 'read', method: 'GET', path, signal }));
      return reply === null ? null : wire.readInstanceReply(reply, id);
    },

    listInstances: (signal?: AbortSignal) => listAllInstances(send, null, signal),
    findByLabel: (label: string, signal?: AbortSignal) => listAllInstances(send, label, signal),

    async destroy(id: string, signal?: AbortSignal) {
      const path = `/api/v0/instances/${vendorId(id)}/`;
      await orNotFound(send({ endpoint: 'destroy', kind: 'write', method: 'DELETE', path, body: {}, signal }));
    },

    stop: async (id, signal) => void (await change(id, { state: 'stopped' }, signal)),
    start: async (id, signal) => void (await change(id, { state: 'running' }, signal)),
    setLabel: async (id, label, signal) => void (await change(id, { label }, signal)),

    async changeBid(id, bid, signal) {
      const path = `/api/v0/instances/bid_price/${vendorId(id)}/`;
      const body = { client_id: 'me', price: Number(bid) / 1e6 };
      await send({ endpoint: 'bid', kind: 'write', method: 'PUT', path, body, signal });
    },

    async attachSshKey(id, publicKey, signal) {
      const path = `/api/v0/instances/${vendorId(id)}/ssh/`;
      await orAlreadyThere(
        send({ endpoint: 'ssh_key', kind: 'write', method: 'POST', path, body: { ssh_key: publicKey }, signal }),
      );
    },

    async listAccountSshKeys(signal) {
      return wire.readAccountKeys(
        await send({ endpoint: 'ssh_key', kind: 'read', method: 'GET', path: '/api/v0/ssh/', signal }),
      );
    },

    async addAccountSshKey(publicKey, signal) {
      const body = { ssh_key: publicKey };
      await orAlreadyThere(
        send({ endpoint: 'ssh_key', kind: 'write', method: 'POST', path: '/api/v0/ssh/', body, signal }),
      );
    },

    async readAccount(signal) {
      // One of the two paths that the official client sends without a slash at the end.
      const path = '/api/v0/users/current';
      return wire.readAccountReply(await send({ endpoint: 'account', kind: 'read', method: 'GET', path, signal }));
    },
  };
}

async function orNotFound(reply: Promise<unknown>): Promise<unknown> {
  return reply.catch((error: unknown) => {
    if (error instanceof ProviderError && error.kind === 'not_found') return null;
    throw error;
  });
}

async function orAlreadyThere(reply: Promise<unknown>): Promise<void> {
  await reply.catch((error: unknown) => {
    if (!(error instanceof ProviderError && /already/i.test(error.message) && error.kind === 'invalid')) throw error;
  });
}

/**
 * The vendor's spelling of a GPU name: its filter compares exactly, people write "rtx_4090". The list is public and best
 * effort; without it the upper-cased name is tried.
 */
function createGpuNames(settings: ProviderSettings): (gpu: string, signal?: AbortSignal) => Promise<string> {
  let known: { names: Map<string, string>; atMs: number } | undefined;
  return async (gpu, signal) => {
    if (known === undefined || performance.now() - known.atMs > GPU_NAMES_KEPT_MS) {
      const url = `${baseUrlOf(settings)}/api/v0/gpu_names/unique/`;
      const reply = await sendHttp({ method: 'GET', url, headers: {}, timeoutMs: 5_000, signal }).catch(() => null);
      const names = reply?.status === 200 ? wire.readGpuNames(reply.json) : null;
      if (names)
        known = { names: new Map(names.map((name) => [canonicalGpuKey(name), name])), atMs: performance.now() };
    }
    const key = canonicalGpuKey(gpu);
    return known?.names.get(key) ?? key.toUpperCase();
  };
}

function searchBody(query: OfferQuery, gpuName: string | undefined): Json {
  const diskGib = query.diskGib ?? 40;
  return {
    verified: { eq: true },
    external: { eq: false },
    rentable: { eq: true },
    rented: { eq: false },
    ...(gpuName === undefined ? {} : { gpu_name: { eq: gpuName } }),
    ...(query.gpuCount === undefined ? {} : { num_gpus: { eq: query.gpuCount } }),
    disk_space: { gte: diskGib },
    ...(query.maxPriceMicroUsdPerHour === undefined || query.interruptible === true
      ? {}
      : { dph_total: { lte: Number(query.maxPriceMicroUsdPerHour) / 1e6 } }),
    order: [['dph_total', 'asc']],
    type: query.interruptible === true ? 'bid' : 'on-demand',
    limit: query.limit ?? ALL_OFFERS,
    allocated_storage: diskGib,
  };
}

/** Ids are integers at the vendor; anything else must not become part of a path. */
function vendorId(id: string): string {
  if (!/^\d{1,18}$/.test(id)) throw new ProviderError('invalid', `"${id}" is no id of Vast.ai (digits only)`);
  return id;
}
