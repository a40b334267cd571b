/**
 * The purchase runtime: what a dynamic resource needs from whoever runs the engine. The operation child injects one that asks the
 * control plane; under plain `pulumi up` entry.ts makes one that stands alone. The resource code is the same in both.
 */
import type { CrashPoint } from '../domain/crash-points.ts';
import type { MicroUsd } from '../domain/money.ts';
import type { OfferRequirements } from '../domain/offer.ts';
import type { ProviderName } from '../domain/provider.ts';
import type { ProviderClient } from './provider-client.ts';

/** The offer to try now. */
export interface Candidate {
  providerOfferId: string;
  machineId: string | null;
  priceMicroUsdPerHour: MicroUsd;
}

/** A definite refusal of the candidate tried before, in the vendor's words (no secrets). */
export interface Refusal {
  providerOfferId: string;
  reason: string;
}

export interface PurchaseRuntime {
  client(provider: ProviderName): ProviderClient;

  /**
   * The next offer for the attempt with this label, recorded before it is returned; null when there is none left.
   * `refused` says what became of the one given before; null at the first call, which returns the same candidate again until
   * it is refused (so a resumed create does not move on).
   */
  nextCandidate(
    label: string,
    provider: ProviderName,
    requirements: OfferRequirements,
    refused: Refusal | null,
    signal: AbortSignal,
  ): Promise<Candidate | null>;

  /** Whether a machine with this label may exist already: then create looks it up before it buys. */
  mayExist(label: string): boolean;

  /**
   * The label for a resource that was given none (plain `pulumi up`), from its key `<project>-<urn hash>`; the same key gives the
   * same label. Throws where labels must be given (control plane).
   */
  labelFor(resourceKey: string): string;

  /** Throws ProviderError `canceled` when the right to spend was lost (lease over, canceled). Called right before each purchase. */
  assertMaySpend(): void;

  /** How long the vendor's list may lag behind a purchase: a lost reply is looked up until then. */
  listLagMs(provider: ProviderName): number;

  /** Deployment keys that are let in besides the resource's own `sshPublicKeys`. */
  deploymentSshPublicKeys(): string[];

  /** Aborted when the update is canceled. */
  signal(): AbortSignal;

  progress(label: string, message: string): void;
  crashPoint: CrashPoint;
}
