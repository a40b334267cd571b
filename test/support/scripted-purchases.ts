/** A scripted vendor in memory and a purchase runtime over it, for tests of what stands above a provider's client. */
import type { CrashPointName } from '../../domain/crash-points.ts';
import type { ObservedInstance, ObservedStatus } from '../../domain/observed-instance.ts';
import { ProviderError, type ProviderErrorKind } from '../../domain/provider-error.ts';
import type { ProviderClient, PurchaseOrder } from '../../providers-dynamic/provider-client.ts';
import type { Candidate, PurchaseRuntime, Refusal } from '../../providers-dynamic/purchase-runtime.ts';

type Method = Exclude<keyof ProviderClient, 'provider'>;

/** What the next purchases do: sold · refused · sold and the answer lost · nothing done and the answer lost · refused and made. */
export type PurchaseScript =
  'sold' | 'refused' | 'answer_lost' | 'request_lost' | 'refused_but_made' | ProviderErrorKind;

interface Machine {
  id: string;
  label: string | null;
  status: ObservedStatus;
  keys: string[];
  order: PurchaseOrder | null;
}

export type ScriptedClient = ReturnType<typeof createScriptedClient>;
export type ScriptedRuntime = ReturnType<typeof createScriptedRuntime>;

export function createScriptedClient() {
  const machines = new Map<string, Machine>();
  const calls: Method[] = [];
  const bought: string[] = [];
  const purchases: PurchaseScript[] = [];
  const failures = new Map<Method, ProviderError[]>();
  const hidden = new Set<string>();
  const listHidden = new Map<string, number>();
  let nextId = 1001;
  let destroyTakesReads = 0;
  const dying = new Map<string, number>();
  let readHook: (id: string) => void = () => {};

  const enter = (method: Method, signal?: AbortSignal): void => {
    calls.push(method);
    if (signal?.aborted) throw new ProviderError('canceled', 'canceled');
    const failure = failures.get(method)?.shift();
    if (failure) throw failure;
  };
  const make = (label: string, status: ObservedStatus, order: PurchaseOrder | null): Machine => {
    const machine: Machine = { id: String(nextId++), label, status, keys: [], order };
    machines.set(machine.id, machine);
    return machine;
  };
  const find = (label: string): Machine => {
    const machine = [...machines.values()].find((each) => each.label === label);
    if (!machine) throw new Error(`no machine ${label}`);
    return machine;
  };

  const client: ProviderClient = {
    provider: 'vastai',
    capabilities: { interruptible: true, stop: true, attachKeys: true, relabel: true },
    searchOffers: () => Promise.resolve([]),
    async buy(order, signal, beforeSending) {
      enter('buy', signal);
      beforeSending?.();
      const script = purchases.shift() ?? 'sold';
      switch (script) {
        case 'refused':
          throw new ProviderError('no_capacity', `no_such_ask ${order.providerOfferId}`, { httpStatus: 410 });
        case 'request_lost':
          throw new ProviderError('unknown', 'connection reset');
        case 'refused_but_made': {
          const made = make(order.label, 'stopped', order);
          throw new ProviderError('no_capacity', 'bid_too_low', { createdInstanceId: made.id });
        }
        case 'sold':
        case 'answer_lost': {
          const machine = make(order.label, 'starting', order);
          bought.push(order.label);
          if (script === 'answer_lost') throw new ProviderError('unknown', 'connection reset');
          return { providerInstanceId: machine.id };
        }
        default:
          throw new ProviderError(script, `scripted ${script}`);
      }
    },
    async readInstance(id, signal) {
      readHook(id);
      enter('readInstance', signal);
      const left = dying.get(id);
      if (left !== undefined && left <= 0) machines.delete(id);
      else if (left !== undefined) dying.set(id, left - 1);
      const machine = machines.get(id);
      if (machine?.label && hidden.has(machine.label))
        throw new ProviderError('retryable', 'scripted: not readable now');
      return machine ? observe(machine) : null;
    },
    async listInstances(signal) {
      enter('listInstances', signal);
      return [...machines.values()].map(observe);
    },
    async findByLabel(label, signal) {
      enter('findByLabel', signal);
      const left = listHidden.get(label) ?? 0;
      listHidden.set(label, left - 1);
      return left > 0 ? [] : [...machines.values()].filter((machine) => machine.label === label).map(observe);
    },
    async destroy(id, signal) {
      enter('destroy', signal);
      if (destroyTakesReads > 0) dying.set(id, destroyTakesReads);
      else machines.delete(id);
    },
    stop: () => Promise.resolve(),
    start: () => Promise.resolve(),
    async setLabel(id, label, signal) {
      enter('setLabel', signal);
      const machine = machines.get(id);
      if (machine) machine.label = label;
    },
    async changeBid(_id, _bid, signal) {
      enter('changeBid', signal);
    },
    async attachSshKey(id, key, signal) {
      enter('attachSshKey', signal);
      machines.get(id)?.keys.push(key);
    },
    listAccountSshKeys: () => Promise.resolve([]),
    addAccountSshKey: () => Promise.resolve(),
    readAccount: () => Promise.resolve({ accountId: '1', creditMicroUsd: null }),
  };

  return {
    client,
    /** What the next purchases do, in order; afterwards all are sold. */
    script: (...next: PurchaseScript[]) => void purchases.push(...next),
    failNext(method: Method, kind: ProviderErrorKind, message: string, times = 1): void {
      const list = failures.get(method) ?? [];
      for (let i = 0; i < times; i++) list.push(new ProviderError(kind, message));
      failures.set(method, list);
    },
    place: (label: string, status: ObservedStatus = 'running') => make(label, status, null).id,
    calls: () => calls,
    /** Labels of what was really sold. */
    bought: () => bought,
    live: () => [...machines.values()].map((machine) => machine.label),
    liveIds: () => [...machines.keys()],
    keysOf: (label: string) => find(label).keys,
    orderOf: (label: string) => find(label).order,
    setStatus: (label: string, status: ObservedStatus) => void (find(label).status = status),
    relabel: (label: string, next: string | null) => void (find(label).label = next),
    vanish: (label: string) => void machines.delete(find(label).id),
    /** The list shows the label only from the n-th look on. */
    hideFromList: (label: string, looks: number) => void listHidden.set(label, looks),
    hideFromReads: (label: string) => void hidden.add(label),
    showInReads: () => hidden.clear(),
    destroyTakes: (reads: number) => void (destroyTakesReads = reads),
    onRead: (hook: (id: string) => void) => void (readHook = hook),
  };
}

export interface RuntimeScript {
  mayExist?: boolean;
  candidates?: number;
  listLagMs?: number;
  deploymentKeys?: string[];
}

/** Offers are named 1, 2, 3 … for each label; `crashAt` throws at a crash point, as a kill would end the work there. */
export function createScriptedRuntime({ client }: ScriptedClient, script: RuntimeScript = {}) {
  let abort = new AbortController();
  const given = new Map<string, number>();
  const refusals: Refusal[] = [];
  const points: CrashPointName[] = [];
  const messages: string[] = [];
  let onPoint: (name: CrashPointName) => void = () => {};
  let maySpend = true;

  const runtime: PurchaseRuntime = {
    client: () => client,
    nextCandidate(label, _provider, _requirements, refused): Promise<Candidate | null> {
      if (refused) refusals.push(refused);
      const number = (given.get(label) ?? 1) + (refused ? 1 : 0);
      given.set(label, number);
      if (number > (script.candidates ?? 10)) return Promise.resolve(null);
      return Promise.resolve({
        providerOfferId: String(number),
        machineId: `m${number}`,
        priceMicroUsdPerHour: 350_000n,
      });
    },
    mayExist: () => script.mayExist ?? false,
    labelFor: (key) => `muster-ext-${key}`,
    assertMaySpend() {
      if (!maySpend) throw new ProviderError('canceled', 'the lease is over');
    },
    listLagMs: () => script.listLagMs ?? 0,
    deploymentSshPublicKeys: () => script.deploymentKeys ?? [],
    signal: () => abort.signal,
    progress: (_label, message) => void messages.push(message),
    crashPoint(name) {
      points.push(name);
      onPoint(name);
    },
  };
  return {
    ...runtime,
    cancel: () => abort.abort(),
    resume: () => void (abort = new AbortController()),
    loseLease: () => void (maySpend = false),
    atPoint: (hook: (name: CrashPointName) => void) => void (onPoint = hook),
    points: () => points,
    refusals: () => refusals,
    messages: () => messages,
  };
}

function observe(machine: Machine): ObservedInstance {
  return {
    provider: 'vastai',
    providerInstanceId: machine.id,
    label: machine.label,
    status: machine.status,
    statusDetail: null,
    machineId: 'm1',
    gpu: 'RTX 4090',
    gpuCount: 1,
    gpuMemoryGib: 24,
    priceMicroUsdPerHour: 350_000n,
    interruptible: false,
    interrupted: false,
    ssh: null,
    image: machine.order?.image ?? null,
    region: 'SE',
    startedAt: null,
  };
}
