/** The simulated RunPod: REST v2 over the rental core that the sandbox's vendors share. */
import type { Random } from '../random.ts';
import { createRentalVendor } from '../rental/vendor.ts';
import type { RentalTimings } from '../rental/timings.ts';
import type { SandboxVendor } from '../vendor.ts';
import { statusOf, type PodDetails } from './pod.ts';
import { createRunpodWorld, RUNPOD_API, RUNPOD_ENDPOINTS, type RunpodWorld } from './routes.ts';
import { DEFAULT_RUNPOD_SWITCHES, runpodSwitchesSchema, type RunpodSwitches } from './switches.ts';

/** 30 to 60 s to SSH, up to 20 min where the image is pulled; rent to destroy took 28 to 67 s. */
const REAL_TIMINGS: RentalTimings = {
  boot: [25_000, 120_000],
  restart: [10_000, 40_000],
  stop: [3_000, 10_000],
  terminate: [2_000, 8_000],
  sshDelayMs: 10_000,
};

const FOREIGN_LABELS = [
  ['research-notebook', false],
  ['old-experiments', true],
  ['muster-elsewhere-att_aaaaaaaaaaaaaaaa-0000000000', false],
] as const;

const ID_LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789';

export function createRunpodVendor(): SandboxVendor {
  return createRentalVendor<PodDetails, RunpodSwitches, RunpodWorld>({
    name: 'runpod',
    title: 'RunPod',
    sshUser: 'root',
    endpoints: RUNPOD_ENDPOINTS,
    switchesSchema: runpodSwitchesSchema,
    defaultSwitches: DEFAULT_RUNPOD_SWITCHES,
    realTimings: REAL_TIMINGS,
    makeId: (random: Random) => Array.from({ length: 14 }, () => random.pick(ID_LETTERS.split(''))).join(''),
    hostnameOf: (pod) => pod.id,
    api: RUNPOD_API,
    createWorld: createRunpodWorld,
    countOffers: ({ stock }) => stock.countOffers(),
    describePlaced: ({ pods }, { label }) => pods.describePlaced(label),
    foreignMachines: FOREIGN_LABELS,
    statusText: ({ market }, pod) => statusOf(pod, market.switches()),
  });
}
