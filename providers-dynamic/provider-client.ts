/**
 * The contract of a provider's client: one vendor account, spoken to at the vendor's own wire, answers normalised to domain
 * values. Clients hold no state of ours and decide nothing; what to buy, adopt or destroy is decided above them.
 *
 * For every method: errors are ProviderError, its kind the caller's next move; an aborted signal throws kind `canceled`
 * unless the request may already have had an effect. Reads may be repeated freely. Secrets are in no error message.
 */
import type { MicroUsd } from '../domain/money.ts';
import type { ObservedInstance } from '../domain/observed-instance.ts';
import type { Offer } from '../domain/offer.ts';
import type { ProviderName } from '../domain/provider.ts';

export interface OfferQuery {
  /** GPU model in any spelling; absent: all models. */
  gpu?: string;
  gpuCount?: number;
  /** Disk to include in the price. Default 40. */
  diskGib?: number;
  interruptible?: boolean;
  maxPriceMicroUsdPerHour?: MicroUsd;
  /** At most so many offers. Default: all. */
  limit?: number;
}

/** One purchase: everything the vendor needs, the label included. */
export interface PurchaseOrder {
  providerOfferId: string;
  label: string;
  image: string;
  diskGib: number;
  env: Record<string, string>;
  /** Shell script run at start; null: none. */
  onStart: string | null;
  /** Must agree with the bid: an interruptible order without one is refused (`invalid`), because vendors rent it on demand. */
  interruptible: boolean;
  /** The bid for an interruptible rental, whole offer per hour; null: on demand. */
  bidMicroUsdPerHour: MicroUsd | null;
  /** OpenSSH public keys to let in from the first boot, the deployment's own first. Where keys can be attached later it may be empty. */
  sshPublicKeys: string[];
}

/** What a vendor can do with a machine that it sold; a method it cannot do throws `invalid`. */
export interface ProviderCapabilities {
  interruptible: boolean;
  /** Can be stopped and started again. */
  stop: boolean;
  /** `attachSshKey` lets a key into a machine that was bought. Where not, every key goes with the order. */
  attachKeys: boolean;
  /** `setLabel` works. */
  relabel: boolean;
}

export interface Purchase {
  providerInstanceId: string;
}

export interface ProviderClient {
  readonly provider: ProviderName;
  readonly capabilities: ProviderCapabilities;

  /** Current offers. Throws `unbelievable` for a reply that is not the vendor's listing. An empty array means the vendor lists none. */
  searchOffers(query: OfferQuery, signal?: AbortSignal): Promise<Offer[]>;

  /**
   * Buys. Never repeats the request by itself. An abort before sending throws `canceled`; after it, a short grace for the answer.
   * `beforeSending` is called when the turn at the rate limiter has come, right before the request; what it throws stops the purchase. Errors: `no_capacity` (definitely not bought; take another offer), `invalid`,
   * `auth`, `billing`, `unknown` (lost reply, 5xx or 429 after sending: look up by label), each with `createdInstanceId`
   * when the vendor refused but still made a machine.
   */
  buy(order: PurchaseOrder, signal?: AbortSignal, beforeSending?: () => void): Promise<Purchase>;

  /** null: the vendor says that there is no such instance. Every other trouble throws. */
  readInstance(providerInstanceId: string, signal?: AbortSignal): Promise<ObservedInstance | null>;

  /** Every instance of the account, all pages. Throws rather than return a part; never reads an error as empty. */
  listInstances(signal?: AbortSignal): Promise<ObservedInstance[]>;

  /** Instances whose label is exactly `label`; the vendor's list may lag behind a purchase (see `listLagMs`). */
  findByLabel(label: string, signal?: AbortSignal): Promise<ObservedInstance[]>;

  /** Asks the vendor to destroy; idempotent: already gone is success. Returning does not prove it gone: read back. */
  destroy(providerInstanceId: string, signal?: AbortSignal): Promise<void>;

  /** Releases the GPU, keeps and bills the disk. `invalid` where the vendor has no such state. */
  stop(providerInstanceId: string, signal?: AbortSignal): Promise<void>;
  start(providerInstanceId: string, signal?: AbortSignal): Promise<void>;
  setLabel(providerInstanceId: string, label: string, signal?: AbortSignal): Promise<void>;
  /** Changes the bid of an interruptible rental (whole offer per hour). `invalid` where there are no bids. */
  changeBid(providerInstanceId: string, bidMicroUsdPerHour: MicroUsd, signal?: AbortSignal): Promise<void>;

  /** Lets an OpenSSH public key in; idempotent. May take the vendor some seconds to take effect. */
  attachSshKey(providerInstanceId: string, publicKey: string, signal?: AbortSignal): Promise<void>;
  /** The account's own keys (they apply to new instances). */
  listAccountSshKeys(signal?: AbortSignal): Promise<{ id: string; publicKey: string }[]>;
  addAccountSshKey(publicKey: string, signal?: AbortSignal): Promise<void>;

  /** Checks the credentials and tells what is left to spend; null where the vendor does not say. */
  readAccount(signal?: AbortSignal): Promise<{ accountId: string; creditMicroUsd: MicroUsd | null }>;
}

/** Spacing of calls per endpoint, shared by everybody who uses the same account. */
export interface RateLimiter {
  /**
   * Waits until one call of `endpoint` may be sent. Rejects with ProviderError `canceled` when aborted; nothing is sent then.
   * Endpoint names are the client's own ("create", "list", …).
   */
  acquire(provider: ProviderName, endpoint: string, signal?: AbortSignal): Promise<void>;
  /** The vendor said 429: nobody calls this endpoint again before `forMs` have passed. */
  slowDown(provider: ProviderName, endpoint: string, forMs: number): Promise<void>;
}

/** Seconds between two calls per endpoint; an endpoint that is not listed is not limited. */
export type RateLimits = Record<string, number>;

/** What a client is made of. Keys come from the environment by way of config.ts or entry.ts, never from stack config. */
export interface ProviderSettings {
  apiKey: string;
  baseUrl: string;
  /** Bound on one HTTP call. Default 30,000. */
  requestTimeoutMs?: number;
}
