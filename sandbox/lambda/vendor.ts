/** Lambda as one of the sandbox's vendors. */
import { createRentalVendor } from '../rental/vendor.ts';
import type { SandboxVendor } from '../vendor.ts';
import { LAMBDA_API } from './api.ts';
import { toHex } from './ids.ts';
import { type LambdaDetails, statusOf } from './instance-wire.ts';
import { describePlaced } from './launch.ts';
import { LAMBDA_ENDPOINTS } from './routes.ts';
import { DEFAULT_LAMBDA_SWITCHES, type LambdaSwitches, lambdaSwitchesSchema } from './switches.ts';
import { createLambdaWorld, type LambdaWorld } from './world.ts';

export function createLambdaVendor(): SandboxVendor {
  return createRentalVendor<LambdaDetails, LambdaSwitches, LambdaWorld>({
    name: 'lambda',
    title: 'Lambda',
    sshUser: 'ubuntu',
    endpoints: LAMBDA_ENDPOINTS,
    switchesSchema: lambdaSwitchesSchema,
    defaultSwitches: DEFAULT_LAMBDA_SWITCHES,
    // providers/lambda.md §3: 165 to 478 s measured; sshd lags behind `active`.
    realTimings: {
      boot: [165_000, 478_000],
      restart: [60_000, 180_000],
      stop: [5_000, 10_000],
      terminate: [10_000, 40_000],
      sshDelayMs: 15_000,
    },
    makeId: toHex,
    hostnameOf: (machine) => machine.details.hostname ?? machine.id.slice(0, 8),
    api: LAMBDA_API,
    createWorld: createLambdaWorld,
    countOffers: ({ stock }) => stock.countOffers(),
    describePlaced: (world, { label }) => describePlaced(world, label),
    // There is no stop here: all three run. The last looks like ours and is another deployment's.
    foreignMachines: [
      ['research-notebook', false],
      ['', false],
      ['muster-elsewhere-att_aaaaaaaaaaaaaaaa-0000000000', false],
    ],
    statusText: (_world, machine) => statusOf(machine),
  });
}
