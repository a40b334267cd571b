/**
 * Buying one machine under one label: adopt what is there, else buy, and know at every exit whether something may have been
 * bought. A purchase is never repeated blindly; the next candidate is taken only after a definite refusal.
 */
import type { ObservedInstance } from '../domain/observed-instance.ts';
import type { OfferRequirements } from '../domain/offer.ts';
import { ProviderError } from '../domain/provider-error.ts';
import type { ProviderName } from '../domain/provider.ts';
import { destroyVerified, type DestroyTimings } from './destroy-machine.ts';
import { pause } from './pause.ts';
import type { ProviderClient, PurchaseOrder } from './provider-client.ts';
import type { Candidate, PurchaseRuntime, Refusal } from './purchase-runtime.ts';

export interface MachineOrder {
  provider: ProviderName;
  label: string;
  requirements: OfferRequirements;
  /** The order without its offer. */
  order: Omit<PurchaseOrder, 'providerOfferId' | 'label'>;
}

export interface BoughtMachine {
  providerInstanceId: string;
  /** The listing's price and machine; null where the machine was adopted. */
  candidate: Candidate | null;
  /** null right after a purchase: not read back yet. */
  observed: ObservedInstance | null;
  /** Further machines with this label. */
  duplicateInstanceIds: string[];
}

/** A refused purchase left a machine that could not be destroyed. It is ours and bills: keep it in the state. */
export class RejectedMachineError extends Error {
  readonly providerInstanceId: string;

  constructor(providerInstanceId: string, refusal: Error, cause: unknown) {
    const why = cause instanceof Error ? cause.message : String(cause);
    super(
      `the purchase was refused (${refusal.message}) but made instance ${providerInstanceId}, which is still there: ${why}`,
      { cause },
    );
    this.name = 'RejectedMachineError';
    this.providerInstanceId = providerInstanceId;
  }
}

/** More refusals in a row mean that the listing is stale, not that the next one is the lucky one. */
const MAX_CANDIDATES = 50;
const SHOWN_REFUSALS = 5;

/**
 * Throws ProviderError: `no_capacity` every candidate was refused, nothing bought · `unknown` something may have been bought and
 * the label does not show it yet · `canceled` nothing bought · else the purchase's own error. Throws RejectedMachineError.
 */
export async function buyOrAdopt(
  runtime: PurchaseRuntime,
  wanted: MachineOrder,
  timings: DestroyTimings,
): Promise<BoughtMachine> {
  const { provider, label, requirements } = wanted;
  const client = runtime.client(provider);
  const signal = runtime.signal();
  if (runtime.mayExist(label)) {
    const found = await lookUp(runtime, client, label, signal);
    if (found) return found;
  }
  const refusals: Refusal[] = [];
  while (refusals.length < MAX_CANDIDATES) {
    const candidate = await runtime.nextCandidate(label, provider, requirements, refusals.at(-1) ?? null, signal);
    if (signal.aborted) throw new ProviderError('canceled', 'canceled before the purchase');
    if (candidate === null) throw exhausted(refusals);
    runtime.crashPoint('candidate_assigned');
    runtime.progress(label, `buying offer ${candidate.providerOfferId} of ${provider}`);
    const outcome = await tryCandidate(runtime, client, wanted, candidate, timings);
    if ('providerInstanceId' in outcome) return outcome;
    refusals.push(outcome);
    runtime.progress(label, `offer ${candidate.providerOfferId} refused: ${outcome.reason}`);
  }
  throw exhausted(refusals);
}

async function tryCandidate(
  runtime: PurchaseRuntime,
  client: ProviderClient,
  wanted: MachineOrder,
  candidate: Candidate,
  timings: DestroyTimings,
): Promise<BoughtMachine | Refusal> {
  const { label } = wanted;
  const order: PurchaseOrder = { ...wanted.order, label, providerOfferId: candidate.providerOfferId };
  const beforeSending = (): void => {
    runtime.assertMaySpend();
    runtime.crashPoint('purchase_sending');
  };
  try {
    const { providerInstanceId } = await client.buy(order, runtime.signal(), beforeSending);
    runtime.crashPoint('purchase_answered');
    return { providerInstanceId, candidate, observed: null, duplicateInstanceIds: [] };
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    if (error.createdInstanceId !== undefined) {
      runtime.crashPoint('purchase_answered');
      await destroyRejected(client, error, timings);
    } else if (error.kind === 'unknown') {
      return adoptAfterUnknown(runtime, client, label, error);
    } else if (error.kind !== 'no_capacity') {
      throw error;
    }
    return { providerOfferId: candidate.providerOfferId, reason: error.message };
  }
}

/** Not ended by a cancel: a machine that bills comes first, and the time is bounded. */
async function destroyRejected(client: ProviderClient, refusal: ProviderError, timings: DestroyTimings): Promise<void> {
  const id = refusal.createdInstanceId as string;
  try {
    await destroyVerified(client, { providerInstanceId: id, label: null }, timings);
  } catch (error) {
    throw new RejectedMachineError(id, refusal, error);
  }
}

/** The answer was lost. A cancel cuts the waiting short, but never the last look. */
async function adoptAfterUnknown(
  runtime: PurchaseRuntime,
  client: ProviderClient,
  label: string,
  lost: ProviderError,
): Promise<BoughtMachine> {
  runtime.progress(label, `the answer to the purchase was lost (${lost.message}); looking for the machine`);
  try {
    const found = await lookUp(runtime, client, label, runtime.signal()).catch((error: unknown) => {
      if (error instanceof ProviderError && error.kind === 'canceled') return lookOnce(client, label);
      throw error;
    });
    if (found) return found;
  } catch (error) {
    throw unknownOutcome(label, lost, error);
  }
  throw unknownOutcome(label, lost, null);
}

/**
 * Looks for the label several times over the list's lag. null only when the last look, at the end of the lag, was answered and
 * showed nothing; a look that failed is no answer, so then it throws `unknown`.
 */
async function lookUp(
  runtime: PurchaseRuntime,
  client: ProviderClient,
  label: string,
  signal: AbortSignal,
): Promise<BoughtMachine | null> {
  const lagMs = runtime.listLagMs(client.provider);
  const startedAtMs = performance.now();
  let failure: Error | undefined;
  for (const share of lagMs > 0 ? [0, 1 / 8, 1 / 4, 1 / 2, 1] : [0]) {
    const waitMs = startedAtMs + lagMs * share - performance.now();
    if (waitMs > 0) await pause(waitMs, signal);
    try {
      failure = undefined;
      const found = await lookOnce(client, label, signal);
      if (found) {
        reportAdoption(runtime, label, found);
        return found;
      }
    } catch (error) {
      if (error instanceof ProviderError && (error.kind === 'canceled' || error.kind === 'auth')) throw error;
      failure = error instanceof Error ? error : new Error(String(error));
    }
  }
  if (failure === undefined) return null;
  throw new ProviderError('unknown', `cannot tell whether a machine with label ${label} exists: ${failure.message}`, {
    cause: failure,
  });
}

/** What the vendor still knows by its id, the oldest first: a list may show a destroyed machine for a while. */
export async function findAlive(
  client: ProviderClient,
  label: string,
  signal?: AbortSignal,
): Promise<ObservedInstance[]> {
  const listed = await client.findByLabel(label, signal);
  const ids = listed.map((instance) => instance.providerInstanceId).sort(compareIds);
  const alive: ObservedInstance[] = [];
  for (const id of ids) {
    const observed = await client.readInstance(id, signal);
    if (observed !== null) alive.push(observed);
  }
  return alive;
}

async function lookOnce(client: ProviderClient, label: string, signal?: AbortSignal): Promise<BoughtMachine | null> {
  const [oldest, ...others] = await findAlive(client, label, signal);
  if (!oldest) return null;
  return {
    providerInstanceId: oldest.providerInstanceId,
    candidate: null,
    observed: oldest,
    duplicateInstanceIds: others.map((instance) => instance.providerInstanceId),
  };
}

function reportAdoption(runtime: PurchaseRuntime, label: string, found: BoughtMachine): void {
  runtime.progress(label, `adopted instance ${found.providerInstanceId}`);
  if (found.duplicateInstanceIds.length > 0) {
    runtime.progress(label, `more than one machine has this label: also ${found.duplicateInstanceIds.join(', ')}`);
  }
}

/** Numeric where ids are numbers, which grow with time. */
function compareIds(a: string, b: string): number {
  return a.length === b.length ? (a < b ? -1 : Number(a > b)) : a.length - b.length;
}

function unknownOutcome(label: string, lost: ProviderError, cause: unknown): ProviderError {
  const look = cause instanceof Error ? `looking it up failed: ${cause.message}` : 'its label does not show up';
  return new ProviderError('unknown', `${lost.message}; a machine with label ${label} may exist, ${look}`, {
    cause: lost,
  });
}

function exhausted(refusals: Refusal[]): ProviderError {
  if (refusals.length === 0) return new ProviderError('no_capacity', 'no offer satisfies the requirements');
  const shown = refusals.slice(-SHOWN_REFUSALS).map(({ providerOfferId, reason }) => `${providerOfferId}: ${reason}`);
  return new ProviderError(
    'no_capacity',
    `no offer left after ${refusals.length} refusals; the last: ${shown.join('; ')}`,
  );
}
