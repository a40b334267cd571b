/**
 * The client of one RunPod account, on its REST API v2 only: the older ones end, and what they alone can do (interruptible pods)
 * is not offered. The contract is provider-client.ts; what answers mean is in wire.ts, catalogue.ts and errors.ts.
 */
import { createHash } from 'node:crypto';
import { ProviderError } from '../../domain/provider-error.ts';
import type { OfferQuery, ProviderClient, ProviderSettings, PurchaseOrder, RateLimiter } from '../provider-client.ts';
import { catalogueQuery, readCatalogue, readOfferId } from './catalogue.ts';
import { checkOrder, purchaseBody } from './order.ts';
import { createSender } from './sender.ts';
import * as wire from './wire.ts';

/** Statuses in which an action has nothing left to do. */
const DONE_STATUSES = { stop: ['EXITED'], start: ['RUNNING', 'STARTING', 'PROVISIONING'] } as const;

export function createRunpodClient(settings: ProviderSettings, limiter: RateLimiter): ProviderClient {
  const send = createSender(settings, limiter);

  /** null: the vendor says that there is no such pod. */
  const readPod = (id: string, signal: AbortSignal | undefined): Promise<unknown> =>
    orNotFound(send({ kind: 'read', method: 'GET', path: podPath(id), good: [200], signal }));

  const listPods = async (signal: AbortSignal | undefined) => {
    // Members of clusters are hidden otherwise, and outlive their cluster now and then.
    const path = '/v2/pods?includeClusterPods=true';
    return wire.readPodList(await send({ kind: 'read', method: 'GET', path, good: [200], signal }));
  };

  const act = async (id: string, action: 'start' | 'stop', signal: AbortSignal | undefined): Promise<void> => {
    const path = `${podPath(id)}/action`;
    try {
      await send({ kind: 'write', method: 'POST', path, good: [200], body: { action }, signal });
    } catch (error) {
      if (!isConflict(error)) throw error;
      const word = wire.readStatusWord(await readPod(id, signal));
      if (!(DONE_STATUSES[action] as readonly (string | null)[]).includes(word)) throw error;
    }
  };

  const readKeys = async (signal: AbortSignal | undefined) =>
    wire.readAccountKeys(
      await send({ kind: 'read', method: 'GET', path: '/v2/account/ssh-keys', good: [200], signal }),
    );

  return {
    provider: 'runpod',
    capabilities: { interruptible: false, stop: true, attachKeys: false, relabel: true },

    async searchOffers(query: OfferQuery, signal?: AbortSignal) {
      const path = `/v2/catalog/gpus?${catalogueQuery(query)}`;
      return readCatalogue(await send({ kind: 'read', method: 'GET', path, good: [200], signal }), query);
    },

    async buy(order: PurchaseOrder, signal?: AbortSignal, beforeSending?: () => void) {
      checkOrder(order);
      const body = purchaseBody(order, readOfferId(order.providerOfferId));
      const reply = await send({
        kind: 'purchase',
        method: 'POST',
        path: '/v2/pods',
        good: [200, 201],
        body,
        signal,
        secrets: Object.values(body.env),
        beforeSending,
      });
      const id = wire.readCreatedId(reply);
      if (id === null) throw new ProviderError('unknown', 'RunPod accepted the purchase without naming the pod');
      return { providerInstanceId: id };
    },

    async readInstance(id: string, signal?: AbortSignal) {
      const reply = await readPod(id, signal);
      return reply === null ? null : wire.readPodReply(reply, id);
    },

    listInstances: listPods,

    async findByLabel(label: string, signal?: AbortSignal) {
      const pods = await listPods(signal);
      return pods.filter((pod) => pod.label === label && !wire.isTerminated(pod));
    },

    async destroy(id: string, signal?: AbortSignal) {
      try {
        await orNotFound(send({ kind: 'write', method: 'DELETE', path: podPath(id), good: [200, 204], signal }));
      } catch (error) {
        // Refused for what another call did meanwhile, perhaps this very thing.
        if (!isConflict(error) || (await readPod(id, signal)) !== null) throw error;
      }
    },

    stop: (id, signal) => act(id, 'stop', signal),
    start: (id, signal) => act(id, 'start', signal),

    async setLabel(id, label, signal) {
      await send({ kind: 'write', method: 'PATCH', path: podPath(id), good: [200], body: { name: label }, signal });
    },

    changeBid: () => Promise.reject(new ProviderError('invalid', 'RunPod rents on demand only: there is no bid')),

    attachSshKey: () =>
      Promise.reject(
        new ProviderError('invalid', 'RunPod lets keys in at the purchase only: give every key with the order'),
      ),

    listAccountSshKeys: readKeys,

    /** The vendor replaces the whole list, so the keys that are there are sent again; two at once can lose one: check and repeat. */
    async addAccountSshKey(publicKey, signal) {
      const keys = (await readKeys(signal)).map((key) => key.publicKey);
      if (keys.includes(publicKey)) return;
      const body = { keys: [...keys, publicKey] };
      await send({ kind: 'write', method: 'PUT', path: '/v2/account/ssh-keys', good: [200], body, signal });
    },

    /** There is neither an account nor a balance in REST v2: a harmless read proves the key, whose digest names the account. */
    async readAccount(signal) {
      await readKeys(signal);
      const digest = createHash('sha256').update(settings.apiKey).digest('hex').slice(0, 12);
      return { accountId: `key-${digest}`, creditMicroUsd: null };
    },
  };
}

async function orNotFound(reply: Promise<unknown>): Promise<unknown> {
  return reply.catch((error: unknown) => {
    if (error instanceof ProviderError && error.kind === 'not_found') return null;
    throw error;
  });
}

function isConflict(error: unknown): boolean {
  return error instanceof ProviderError && error.httpStatus === 409;
}

function podPath(id: string): string {
  if (!wire.isPodId(id))
    throw new ProviderError('invalid', `"${id}" is no id of a RunPod pod (letters, digits, dashes)`);
  return `/v2/pods/${id}`;
}
