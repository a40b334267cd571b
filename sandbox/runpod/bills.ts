/** `GET /v2/billing/pods`: what each pod has cost so far. The sandbox keeps no history, so all of it is in the bucket of today. */
import type { RentalMarket } from '../rental/vendor.ts';
import type { PodDetails } from './pod.ts';
import { toTime } from './pod.ts';
import type { RunpodSwitches } from './switches.ts';

const DAY_MS = 86_400_000;

export function billPods(
  { clock, fleet }: RentalMarket<PodDetails, RunpodSwitches>,
  query: URLSearchParams,
): Record<string, unknown> {
  const podId = query.get('podId');
  const startMs = Math.floor(clock.now() / DAY_MS) * DAY_MS;
  const range = { startTime: toTime(startMs), endTime: toTime(startMs + DAY_MS) };
  const pods = [...fleet.all()].filter(({ id }) => podId === null || id === podId);
  const amounts = pods.map((pod) => toAmounts(fleet.chargedMicroUsd(pod)));
  const total = pods.reduce((sum, pod) => sum + fleet.chargedMicroUsd(pod), 0);
  return {
    records: pods.map(({ id }, index) => ({ ...range, podId: id, ...amounts[index] })),
    metadata: {
      query: { ...range, bucketSize: 'day', podId },
      recordCount: pods.length,
      uniquePodCount: pods.length,
      totals: toAmounts(total),
    },
  };
}

/** The sandbox does not tell what of it was the disk's. */
function toAmounts(microUsd: number): Record<string, number> {
  return { totalAmount: microUsd / 1e6, gpuAmount: microUsd / 1e6, cpuAmount: 0, diskAmount: 0 };
}
