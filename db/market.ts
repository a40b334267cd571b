/** The market: everything that a plan looks at beside the request itself, read together. The same for plans that buy and plans that are shown. */
import type { ProviderName } from '../domain/provider.ts';
import type { ProvisionRequest } from '../domain/provision-request.ts';
import { findClosed, isMarketBelieved } from '../domain/provisioning/closed-providers.ts';
import type { PlanInput } from '../domain/provisioning/planner.ts';
import type { Executor } from './database.ts';
import { listMachines, machineRecordFromRow } from './machines.ts';
import { countHiddenFor, listOffersFor, listReservedKeys } from './offers.ts';
import { readProviderStates } from './provider-states.ts';
import { readReadyStatistics } from './ready-samples.ts';

export type Market = Required<
  Pick<
    PlanInput,
    | 'offers'
    | 'hiddenOffers'
    | 'machines'
    | 'providers'
    | 'readyTimes'
    | 'reserved'
    | 'closed'
    | 'offersBelievable'
    | 'unseenProviders'
  >
>;

/** Machine records considered in a plan: those we used last. */
const MACHINE_RECORDS = 5_000;

/** @param reachable providers that this process can buy from; absent: as their rows say */
export async function readMarket(
  executor: Executor,
  request: Pick<ProvisionRequest, 'gpu' | 'gpuCount' | 'interruptible' | 'providers' | 'onlyOffer'>,
  reachable?: readonly ProviderName[],
): Promise<Market> {
  const [offers, hiddenOffers, machines, ready, reserved, { rows, states }] = await Promise.all([
    listOffersFor(executor, request),
    countHiddenFor(executor, request),
    listMachines(executor, { limit: MACHINE_RECORDS }),
    readReadyStatistics(executor, request.gpu),
    listReservedKeys(executor),
    readProviderStates(executor),
  ]);
  const ours = states.map((state) => ({
    ...state,
    isOn: state.isOn && (reachable === undefined || reachable.includes(state.provider)),
  }));
  const closed = findClosed(ours, request.providers);
  return {
    offers,
    hiddenOffers,
    machines: machines.map(machineRecordFromRow),
    providers: ready.providers,
    readyTimes: ready.byMachine,
    reserved,
    closed,
    offersBelievable: isMarketBelieved(ours, request.providers, closed),
    unseenProviders: new Set(
      rows.filter((row) => row.instances_problem !== null).map((row) => row.name as ProviderName),
    ),
  };
}
