/**
 * Races of five, one after another: how long after its fastest candidate's boot is each ready, what do the losers cost beyond the winner, and
 * how soon are they proven gone. Run: npm run bench:race
 */
import { PROVIDER_NAMES } from '../domain/provider.ts';
import type { VendorMachineReport } from '../sandbox/vendor.ts';
import { waitFor } from '../test/support/muster-process.ts';
import { median, openLab, percentile, waitUntilReady } from './lab.ts';

const RACES = 6;
const WIDTH = 5;
const POLL_MS = 100;

interface Instance {
  status: string;
  readyAt: string | null;
  attempts: {
    providerInstanceId: string | null;
    purchasedAt: string | null;
    readyAt: string | null;
    goneAt: string | null;
  }[];
}

const lab = await openLab({
  sandbox: { offers: 800, latencyMs: 50 },
  env: { MUSTER_READINESS_INTERVAL: '2 seconds', MUSTER_AGENT: 'off' },
});
await lab.muster.start();
await waitUntilReady(lab.muster);
await waitFor(
  async () => (await lab.muster.request<{ items: [] }>('GET', '/api/v1/inventory')).body.items.length > 0,
  60_000,
);
const behindMs: number[] = [];
const goneMs: number[] = [];
const extraMicroUsd: number[] = [];
for (let race = 0; race < RACES; race++) await measureRace();
console.log(
  [
    `${RACES} races of ${WIDTH}`,
    `ready after the fastest candidate's boot: median ${median(behindMs).toFixed(0)} ms, worst ${percentile(behindMs, 1).toFixed(0)} ms (one readiness tick is 2,000 ms)`,
    `losers proven gone after the win: median ${(median(goneMs) / 1000).toFixed(1)} s, worst ${(percentile(goneMs, 1) / 1000).toFixed(1)} s`,
    `charged for losers: worst $${(percentile(extraMicroUsd, 1) / 1_000_000).toFixed(4)} of $0.25`,
  ].join('\n  '),
);
await lab.close();

async function measureRace(): Promise<void> {
  const body = {
    gpu: 'RTX 4090',
    maxPriceUsdPerHour: '0.99',
    strategy: 'race',
    raceWidth: WIDTH,
    maxRaceCostUsd: '0.25',
  };
  const accepted = await lab.muster.request<{ instances: { id: string }[] }>('POST', '/api/v1/instances', body);
  const id = accepted.body.instances[0]?.id ?? '';
  const runningAt = new Map<string, number>();
  let instance: Instance | undefined;
  await waitFor(
    async () => {
      instance = (await lab.muster.request<Instance>('GET', `/api/v1/instances/${id}`)).body;
      noteRunning(runningAt);
      const losers = instance.attempts.filter((attempt) => attempt.readyAt === null || attempt.goneAt !== null);
      return (
        instance.status === 'ready' &&
        losers.length >= instance.attempts.length - 1 &&
        losers.every(({ goneAt }) => goneAt !== null)
      );
    },
    180_000,
    'the race is over and its losers are gone',
    POLL_MS,
  );
  const { attempts, readyAt } = instance as Instance;
  const ids = new Set(attempts.map(({ providerInstanceId }) => providerInstanceId));
  const booted = [...runningAt].filter(([machine]) => ids.has(machine)).map(([, atMs]) => atMs);
  behindMs.push(Date.parse(readyAt ?? '') - Math.min(...booted));
  const gone = attempts.flatMap(({ goneAt }) => (goneAt === null ? [] : [Date.parse(goneAt)]));
  goneMs.push(Math.max(...gone) - Date.parse(readyAt ?? ''));
  const charged = allMachines().filter((machine) => ids.has(String(machine.id)) && machine.destroyedAtMs !== null);
  extraMicroUsd.push(charged.reduce((sum, machine) => sum + machine.chargedMicroUsd, 0));
  await lab.muster.request('DELETE', `/api/v1/instances/${id}`);
}

/** When each machine was first seen to answer SSH; the vendor's own clock is the wall clock here. */
function noteRunning(runningAt: Map<string, number>): void {
  for (const machine of allMachines()) {
    if (machine.sshPort !== null && !runningAt.has(String(machine.id))) runningAt.set(String(machine.id), Date.now());
  }
}

function allMachines(): VendorMachineReport[] {
  const state = lab.sandbox.state();
  return PROVIDER_NAMES.flatMap((name): VendorMachineReport[] => state[name].machines);
}
