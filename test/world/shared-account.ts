/**
 * A shared account: a vendor account in memory that we, other people and other deployments use at once. Each call has a point before and
 * after its effect, so that anything can happen in between and an answer can be lost. It notices whoever is touched that must not be.
 */
import type { ObservedInstance } from '../../domain/observed-instance.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import type { ProviderName } from '../../domain/provider.ts';
import type { ProviderClient } from '../../providers-dynamic/provider-client.ts';
import type { SeededRandom } from '../support/seeded-random.ts';
import type { Interleaver } from './interleaver.ts';

export interface SharedMachine {
  id: string;
  label: string | null;
  isForeign: boolean;
  bornAt: number;
}

export interface SharedAccount {
  provider: ProviderName;
  client: ProviderClient;
  machines: Map<string, SharedMachine>;
  place(label: string | null, isForeign: boolean): SharedMachine;
  /** Ids that anybody of ours asked to destroy, with who that was at that moment. */
  onDestroy: (machine: SharedMachine) => void;
  /** Purchases that made a machine, by label. */
  readonly bought: Map<string, number>;
  /** Listings that were lies and came without an error. */
  readonly untrue: WeakSet<ObservedInstance[]>;
  /** What goes wrong, as shares of calls. */
  faults: {
    lostAnswers: number;
    lostRequests: number;
    refusals: number;
    errors: number;
    lies: number;
    slowDestroys: number;
  };
}

export const LIST_LAG_MS = 10_000;
let nextId = 1;

export function createSharedAccount(
  provider: ProviderName,
  random: SeededRandom,
  interleaver: Interleaver,
): SharedAccount {
  const machines = new Map<string, SharedMachine>();
  const dying = new Map<string, number>();
  const bought = new Map<string, number>();

  const place = (label: string | null, isForeign: boolean): SharedMachine => {
    const machine = { id: `${provider}-${nextId++}`, label, isForeign, bornAt: interleaver.now };
    machines.set(machine.id, machine);
    return machine;
  };
  const maybeFail = (): void => {
    if (random.chance(account.faults.errors)) throw new ProviderError('retryable', 'HTTP 503');
  };
  const observe = (machine: SharedMachine): ObservedInstance => ({
    provider,
    providerInstanceId: machine.id,
    label: machine.label,
    status: 'running',
    statusDetail: null,
    machineId: null,
    gpu: 'RTX 4090',
    gpuCount: 1,
    gpuMemoryGib: 24,
    priceMicroUsdPerHour: 300_000n,
    interruptible: false,
    interrupted: false,
    ssh: null,
    image: null,
    region: null,
    startedAt: null,
  });
  /** The list lags behind purchases; now and then it lies. */
  const list = (): ObservedInstance[] => {
    const old = [...machines.values()].filter(
      (machine) => interleaver.now - machine.bornAt >= LIST_LAG_MS || random.chance(0.5),
    );
    if (random.chance(account.faults.lies)) {
      const lie = random.below(3);
      if (lie === 0) throw new ProviderError('unbelievable', 'the reply is no JSON: <html>');
      const told = old.slice(0, lie === 1 ? 0 : Math.floor(old.length / 3)).map(observe);
      account.untrue.add(told);
      return told;
    }
    return old.map(observe);
  };
  const unsupported = (): Promise<never> => Promise.reject(new ProviderError('invalid', 'not in this world'));

  const client: ProviderClient = {
    provider,
    capabilities: { interruptible: false, stop: false, attachKeys: true, relabel: true },
    searchOffers: () => Promise.resolve([]),
    async buy(order, signal, beforeSending) {
      beforeSending?.();
      await interleaver.point();
      if (signal?.aborted) throw new ProviderError('canceled', 'canceled');
      if (random.chance(account.faults.lostRequests)) throw new ProviderError('unknown', 'connection reset');
      if (random.chance(account.faults.refusals)) throw new ProviderError('no_capacity', 'gone');
      const machine = place(order.label, false);
      bought.set(order.label, (bought.get(order.label) ?? 0) + 1);
      await interleaver.point();
      if (random.chance(account.faults.lostAnswers)) throw new ProviderError('unknown', 'connection reset');
      return { providerInstanceId: machine.id };
    },
    async readInstance(id) {
      await interleaver.point();
      maybeFail();
      const left = dying.get(id);
      if (left !== undefined) {
        dying.set(id, left - 1);
        if (left <= 0) machines.delete(id);
      }
      const machine = machines.get(id);
      const answer = machine ? observe(machine) : null;
      await interleaver.point();
      return answer;
    },
    async listInstances() {
      await interleaver.point();
      maybeFail();
      const answer = list();
      await interleaver.point();
      return answer;
    },
    // Exact: what a lag of label look-ups does is the crud's own test, on a real clock.
    async findByLabel(label) {
      await interleaver.point();
      maybeFail();
      const answer = [...machines.values()].filter((machine) => machine.label === label).map(observe);
      await interleaver.point();
      return answer;
    },
    async destroy(id) {
      await interleaver.point();
      maybeFail();
      const machine = machines.get(id);
      if (machine) {
        account.onDestroy(machine);
        if (random.chance(account.faults.slowDestroys)) dying.set(id, 1);
        else machines.delete(id);
      }
      await interleaver.point();
      maybeFail();
    },
    stop: unsupported,
    start: unsupported,
    setLabel: unsupported,
    changeBid: unsupported,
    attachSshKey: () => Promise.resolve(),
    listAccountSshKeys: () => Promise.resolve([]),
    addAccountSshKey: () => Promise.resolve(),
    readAccount: () => Promise.resolve({ accountId: '1', creditMicroUsd: null }),
  };
  const account: SharedAccount = {
    provider,
    client,
    machines,
    place,
    onDestroy: () => {},
    bought,
    untrue: new WeakSet(),
    faults: { lostAnswers: 0, lostRequests: 0, refusals: 0, errors: 0, lies: 0, slowDestroys: 0 },
  };
  return account;
}
