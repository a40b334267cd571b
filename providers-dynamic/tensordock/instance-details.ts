/**
 * What TensorDock's lists leave out. Two of the three shapes name no ports and one no address, so a running machine is read once
 * by its id and remembered: an account at rest is not asked about its machines one by one.
 */
import { ProviderError } from '../../domain/provider-error.ts';
import type { ObservedInstance } from '../../domain/observed-instance.ts';
import type { InstanceRow } from './wire.ts';

/** Per listing; the rest has its turn at the next. A purchase must not wait behind a hundred reads. */
const MAX_READS = 20;
/** Ports were seen to be added a while after the machine runs; then what is known is final. */
const SETTLED_AFTER_MS = 15 * 60_000;

interface Known {
  observed: ObservedInstance;
  ipAddress: string | null;
  runningSinceMs: number;
}

/** Fills rows in. A detail that cannot be had leaves its row as it is: the list itself was answered. Throws `canceled` and `auth`. */
export type CompleteRows = (rows: InstanceRow[], signal?: AbortSignal) => Promise<ObservedInstance[]>;

/** @param read throws, or null where the vendor does not know the id (a list may lag) */
export function createRowCompletion(
  read: (id: string, signal?: AbortSignal) => Promise<InstanceRow | null>,
  nowMs: () => number = () => performance.now(),
): CompleteRows {
  const known = new Map<string, Known>();

  const learn = async (row: InstanceRow, signal: AbortSignal | undefined): Promise<void> => {
    const id = row.observed.providerInstanceId;
    const runningSinceMs = known.get(id)?.runningSinceMs ?? nowMs();
    const found = await read(id, signal).catch((error: unknown) => {
      if (!(error instanceof ProviderError) || error.kind === 'canceled' || error.kind === 'auth') throw error;
      return null;
    });
    if (found?.observed.status === 'running')
      known.set(id, { observed: found.observed, ipAddress: found.ipAddress, runningSinceMs });
  };

  return async (rows, signal) => {
    const lacking = rows.filter((row) => row.observed.status === 'running' && !row.isWhole);
    const lackingIds = new Set(lacking.map((row) => row.observed.providerInstanceId));
    for (const id of known.keys()) if (!lackingIds.has(id)) known.delete(id);
    for (const { observed, ipAddress } of lacking) {
      const details = known.get(observed.providerInstanceId);
      // It was stopped and started again between two listings.
      if (details && ipAddress !== null && ipAddress !== details.ipAddress) known.delete(observed.providerInstanceId);
    }
    const isToRead = ({ observed }: InstanceRow): boolean => {
      const details = known.get(observed.providerInstanceId);
      return details === undefined || (!isReachable(details) && nowMs() - details.runningSinceMs < SETTLED_AFTER_MS);
    };
    await Promise.all(
      lacking
        .filter(isToRead)
        .slice(0, MAX_READS)
        .map((row) => learn(row, signal)),
    );
    return rows.map(({ observed }) => fillIn(observed, known.get(observed.providerInstanceId)));
  };
}

/** By a forwarded port: port 22 is what is tried where none is shown. */
function isReachable({ observed }: Known): boolean {
  return observed.ssh !== null && observed.ssh.port !== 22;
}

function fillIn(observed: ObservedInstance, known: Known | undefined): ObservedInstance {
  if (known === undefined) return observed;
  const details = known.observed;
  return {
    ...observed,
    label: observed.label ?? details.label,
    statusDetail: details.statusDetail,
    gpu: details.gpu ?? observed.gpu,
    gpuCount: details.gpuCount ?? observed.gpuCount,
    gpuMemoryGib: details.gpuMemoryGib ?? observed.gpuMemoryGib,
    priceMicroUsdPerHour: observed.priceMicroUsdPerHour ?? details.priceMicroUsdPerHour,
    ssh: observed.ssh ?? details.ssh,
    startedAt: observed.startedAt ?? details.startedAt,
  };
}
