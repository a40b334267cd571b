/** The simulated TensorDock: its own wire, hosts and account on the machines that all rental vendors share. */
import { createRentalVendor } from '../rental/vendor.ts';
import type { RentalTimings } from '../rental/timings.ts';
import type { SandboxVendor } from '../vendor.ts';
import { TENSORDOCK_API } from './api.ts';
import { makeUuid } from './hardware.ts';
import { statusOf, writeStatus, type TensordockDetails } from './machine.ts';
import { describePlaced } from './purchase.ts';
import { TENSORDOCK_ENDPOINTS } from './routes.ts';
import { DEFAULT_TENSORDOCK_SWITCHES, tensordockSwitchesSchema, type TensordockSwitches } from './switches.ts';
import { createTensordockWorld, type TensordockWorld } from './world.ts';

/** A machine is up after one to five minutes, with cloud-init's 60 to 90 s. */
const REAL_TIMINGS: RentalTimings = {
  boot: [60_000, 240_000],
  restart: [30_000, 90_000],
  stop: [5_000, 20_000],
  terminate: [2_000, 15_000],
  sshDelayMs: 60_000,
};

const FOREIGN_MACHINES = [
  ['blender-render-2', false],
  ['tensordock-dev', true],
  ['my-first-vm', false],
] as const;

export function createTensordockVendor(): SandboxVendor {
  return createRentalVendor<TensordockDetails, TensordockSwitches, TensordockWorld>({
    name: 'tensordock',
    title: 'TensorDock',
    sshUser: 'root',
    endpoints: TENSORDOCK_ENDPOINTS,
    switchesSchema: tensordockSwitchesSchema,
    defaultSwitches: DEFAULT_TENSORDOCK_SWITCHES,
    realTimings: REAL_TIMINGS,
    makeId: makeUuid,
    hostnameOf: (machine) => machine.label.toLowerCase().replace(/[^a-z0-9-]/g, '-') || 'vm',
    api: TENSORDOCK_API,
    createWorld: createTensordockWorld,
    countOffers: ({ stock }) => stock.countOffers(),
    describePlaced,
    foreignMachines: FOREIGN_MACHINES,
    statusText: (world, machine) => writeStatus(statusOf(machine, world.switches()), world.switches()),
  });
}
