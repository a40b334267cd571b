/**
 * Destroying one machine until the vendor says not-found. Every destroy runs through here: of a resource, of a refused
 * purchase, of an orphan. It never touches a machine whose label is not the one expected.
 */
import type { CrashPoint } from '../domain/crash-points.ts';
import { noCrash } from '../domain/crash-points.ts';
import { isRetryable, ProviderError } from '../domain/provider-error.ts';
import { pause } from './pause.ts';
import type { ProviderClient } from './provider-client.ts';

export interface DestroyTimings {
  /** How long to wait for not-found before the caller is told to try again later. */
  verifyMs: number;
  firstPollMs: number;
  maxPollMs: number;
}

/** Vendors answer not-found within seconds; the operation above retries for ever, so this need not. */
export const DESTROY_TIMINGS: DestroyTimings = { verifyMs: 30_000, firstPollMs: 200, maxPollMs: 3_000 };

export interface MachineToDestroy {
  providerInstanceId: string;
  /** The label it must carry, and which must be gone afterwards; null: just bought by us, known by its id only. */
  label: string | null;
  /** Only this machine: others with the label are left alone. Default: they are ours by it and go too. */
  sparesOthers?: boolean;
}

/**
 * Returns only when the vendor says not-found for the id, and lists nothing (with `sparesOthers`: not this one) with the label. Idempotent.
 * Throws ProviderError: `invalid` another label (nothing was done) · `retryable` still there, or the vendor does not answer · others.
 */
export async function destroyVerified(
  client: ProviderClient,
  machine: MachineToDestroy,
  timings: DestroyTimings = DESTROY_TIMINGS,
  options: { signal?: AbortSignal; crashPoint?: CrashPoint } = {},
): Promise<void> {
  const { signal, crashPoint = noCrash } = options;
  const deadlineMs = performance.now() + timings.verifyMs;
  let last: ProviderError | null = null;
  let isAccepted = false;
  for (let waitMs = timings.firstPollMs; ; waitMs = Math.min(waitMs * 2, timings.maxPollMs)) {
    try {
      const observed = await client.readInstance(machine.providerInstanceId, signal);
      if (observed === null) {
        if (await isLabelGone(client, machine, signal)) return;
      } else {
        checkLabel(machine, observed.label);
        if (!isAccepted) {
          crashPoint('delete_sending');
          await client.destroy(machine.providerInstanceId, signal);
          crashPoint('delete_answered');
          isAccepted = true;
          // Most vendors are done at once: look again before the first pause.
          if (await isGone(client, machine, signal)) return;
        }
      }
      last = null;
    } catch (error) {
      if (!(error instanceof ProviderError) || !isRetryable(error.kind)) throw error;
      last = error;
    }
    if (performance.now() + waitMs > deadlineMs) throw notProven(machine, last);
    await pause(waitMs, signal);
  }
}

async function isGone(
  client: ProviderClient,
  machine: MachineToDestroy,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  return (
    (await client.readInstance(machine.providerInstanceId, signal)) === null && isLabelGone(client, machine, signal)
  );
}

/** A duplicate under the same label is ours by that label, so it goes too. The list may show the destroyed one for a while. */
async function isLabelGone(
  client: ProviderClient,
  machine: MachineToDestroy,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if (machine.label === null) return true;
  const listed = await client.findByLabel(machine.label, signal);
  const others = listed.filter((instance) => instance.providerInstanceId !== machine.providerInstanceId);
  if (machine.sparesOthers === true) return others.length === listed.length;
  for (const other of others) await client.destroy(other.providerInstanceId, signal);
  return listed.length === 0;
}

function checkLabel(machine: MachineToDestroy, label: string | null): void {
  if (machine.label === null || label === machine.label) return;
  const shown = label === null ? 'no label' : `the label "${label}"`;
  throw new ProviderError(
    'invalid',
    `refusing to destroy instance ${machine.providerInstanceId}: it carries ${shown} at the vendor, not "${machine.label}"`,
  );
}

function notProven(machine: MachineToDestroy, last: ProviderError | null): ProviderError {
  const why = last === null ? 'the vendor still shows it' : last.message;
  return new ProviderError('retryable', `instance ${machine.providerInstanceId} is not proven gone: ${why}`, {
    cause: last,
  });
}
