/** Vast.ai as one of the sandbox's vendors: its market and its server behind the interface that all of them have. */
import { NotReadyError } from '../http-listener.ts';
import type { SandboxVendor, VendorWorld } from '../vendor.ts';
import { createVastaiMarket, type VastaiMarket } from './market.ts';
import { describeVastai } from './report.ts';
import { VASTAI_ENDPOINTS } from './routes.ts';
import { startVastaiServer, type VastaiServer } from './server.ts';
import { vastaiSwitchesSchema } from './switches.ts';

export function createVastaiVendor(): SandboxVendor {
  let market: VastaiMarket | null = null;
  let server: VastaiServer | null = null;
  const current = (): VastaiMarket => {
    if (market === null) throw new NotReadyError();
    return market;
  };
  return {
    name: 'vastai',
    title: 'Vast.ai',
    endpoints: VASTAI_ENDPOINTS,
    machineFaults: [
      'slow_boot',
      'failed_boot',
      'ssh_never_answers',
      'wrong_gpu',
      'host_loss',
      'host_return',
      'power_off',
      'outbid',
    ],
    switchesSchema: vastaiSwitchesSchema,
    async listen(options) {
      server = await startVastaiServer(current, options);
      return server;
    },
    async open(world: VendorWorld) {
      market = createVastaiMarket(world);
      await market.start();
    },
    stop() {
      market?.stop();
      market = null;
    },
    state: () => describeVastai(current(), server?.callCounts() ?? { perEndpoint: {}, changesPerInstance: {} }),
    switches: () => ({ ...current().switches() }),
    setSwitches: (changes) => current().setSwitches(changes),
    placeMachine: (input) => current().placeMachine(input).id,
    applyFault(instanceId, fault) {
      const { fleet } = current();
      const machine = fleet.find(Number(instanceId));
      if (machine !== undefined) fleet.applyFault(machine, fault);
      return machine !== undefined;
    },
    resetCounts: () => server?.resetCounts(),
  };
}
