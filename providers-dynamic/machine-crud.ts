/** The dynamic resource of one rented machine: create, read, update, delete, diff and check, over the given runtime; the same for every marketplace. */
import { ProviderError } from '../domain/provider-error.ts';
import { buyOrAdopt, RejectedMachineError, type BoughtMachine } from './buy-machine.ts';
import { DESTROY_TIMINGS, destroyVerified, type DestroyTimings } from './destroy-machine.ts';
import { keepingShim, PartialFailure, type DynamicCrud, type Properties } from './dynamic-crud.ts';
import {
  allKeys,
  checkInputs,
  diffMachine,
  missingKeys,
  outputsOf,
  readInputs,
  requirementsOf,
  withObserved,
  type MachineInputs,
  type MachineOutputs,
} from './machine-properties.ts';
import { pause } from './pause.ts';
import type { ProviderName } from '../domain/provider.ts';
import type { ProviderClient } from './provider-client.ts';
import type { PurchaseRuntime } from './purchase-runtime.ts';

export interface CrudTimings extends DestroyTimings {
  /** Pauses between the tries of reading a new machine back; the vendor may know it only after a moment. */
  readBackPausesMs: number[];
}

export const CRUD_TIMINGS: CrudTimings = { ...DESTROY_TIMINGS, readBackPausesMs: [250, 1_000, 3_000] };

/** Several resources may be created at once; nothing is kept between calls. */
export function createMachineCrud(
  provider: ProviderName,
  runtime: PurchaseRuntime,
  timings: CrudTimings = CRUD_TIMINGS,
): DynamicCrud {
  return {
    check: (_olds, news) => Promise.resolve(checkInputs(news)),
    diff: (_id, olds, news) => Promise.resolve(diffMachine(olds, news, runtime.deploymentSshPublicKeys())),
    create: (inputs) => keepingShim(inputs, createMachine(provider, runtime, inputs, timings)),
    read: (id, props) => readMachine(provider, runtime, id, props),
    update: (id, olds, news) => keepingShim(news, ensureMachine(provider, runtime, id, olds, news)),
    delete: (id, props) => deleteMachine(provider, runtime, id, props, timings),
  };
}

/** From the purchase on, every failure is a PartialFailure with the id: a machine that was bought is never lost. */
async function createMachine(
  provider: ProviderName,
  runtime: PurchaseRuntime,
  properties: Properties,
  timings: CrudTimings,
): Promise<{ id: string; outs: Properties }> {
  const inputs = readInputs(properties);
  runtime.crashPoint('create_entered');
  const label = inputs.label ?? runtime.labelFor(inputs.resourceKey);
  const bought = await buyOrAdopt(runtime, machineOrder(provider, runtime, inputs, label), timings).catch(
    (error: unknown) => {
      if (!(error instanceof RejectedMachineError)) throw error;
      const outputs = {
        ...outputsOf(inputs, provider, error.providerInstanceId, label),
        status: 'failed',
        rejected: true,
      };
      throw new PartialFailure(error.providerInstanceId, { ...outputs }, error);
    },
  );
  const id = bought.providerInstanceId;
  const client = runtime.client(provider);
  let outputs = outputsOfBought(provider, inputs, label, bought);
  try {
    const observed = bought.observed ?? (await readBack(client, id, timings, runtime.signal()));
    outputs = withObserved(outputs, observed);
    runtime.crashPoint('purchase_read_back');
    outputs = await attachKeys(runtime, client, inputs, outputs);
    runtime.crashPoint('ssh_keys_attached');
    throwIfCanceled(runtime.signal());
  } catch (error) {
    throw new PartialFailure(id, { ...(error instanceof KeyError ? error.outputs : outputs) }, error);
  }
  return { id, outs: { ...outputs } };
}

function machineOrder(
  provider: ProviderName,
  runtime: PurchaseRuntime,
  inputs: MachineInputs,
  label: string,
): Parameters<typeof buyOrAdopt>[1] {
  return {
    provider,
    label,
    requirements: requirementsOf(inputs, provider),
    order: {
      image: inputs.image,
      diskGib: inputs.diskGib,
      env: inputs.env,
      onStart: inputs.onStart,
      interruptible: inputs.interruptible,
      bidMicroUsdPerHour: inputs.bidMicroUsdPerHour === null ? null : BigInt(inputs.bidMicroUsdPerHour),
      sshPublicKeys: allKeys(inputs, runtime.deploymentSshPublicKeys()),
    },
  };
}

function outputsOfBought(
  provider: ProviderName,
  inputs: MachineInputs,
  label: string,
  bought: BoughtMachine,
): MachineOutputs {
  const outputs = outputsOf(inputs, provider, bought.providerInstanceId, label);
  const { candidate } = bought;
  return {
    ...outputs,
    duplicateInstanceIds: bought.duplicateInstanceIds,
    machineId: candidate?.machineId ?? null,
    priceMicroUsdPerHour: candidate === null ? null : Number(candidate.priceMicroUsdPerHour),
  };
}

async function readBack(
  client: ProviderClient,
  id: string,
  timings: CrudTimings,
  signal: AbortSignal,
): ReturnType<typeof readOnce> {
  for (const pauseMs of timings.readBackPausesMs) {
    try {
      return await readOnce(client, id, signal);
    } catch (error) {
      if (!(error instanceof ProviderError) || error.kind === 'canceled' || error.kind === 'auth') throw error;
      await pause(pauseMs, signal);
    }
  }
  return readOnce(client, id, signal);
}

async function readOnce(client: ProviderClient, id: string, signal: AbortSignal) {
  const observed = await client.readInstance(id, signal);
  if (observed === null)
    throw new ProviderError('unbelievable', `${client.provider} does not know instance ${id}, which it just sold`);
  return observed;
}

/** Some keys were let in before one failed; the outputs tell which. */
class KeyError extends Error {
  readonly outputs: MachineOutputs;

  constructor(outputs: MachineOutputs, cause: unknown) {
    super(`an SSH key could not be attached: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.outputs = outputs;
  }
}

async function attachKeys(
  runtime: PurchaseRuntime,
  client: ProviderClient,
  inputs: MachineInputs,
  outputs: MachineOutputs,
): Promise<MachineOutputs> {
  let attached = outputs;
  if (!client.capabilities.attachKeys) return withOrderedKeys(client, runtime, inputs, outputs);
  for (const key of missingKeys(outputs, inputs, runtime.deploymentSshPublicKeys())) {
    try {
      await client.attachSshKey(outputs.providerInstanceId, key, runtime.signal());
    } catch (error) {
      throw new KeyError(attached, error);
    }
    attached = { ...attached, attachedSshPublicKeys: [...attached.attachedSshPublicKeys, key] };
  }
  return attached;
}

/** Where keys go with the order, those of a new machine are in; one that is wanted later cannot be let in. */
function withOrderedKeys(
  client: ProviderClient,
  runtime: PurchaseRuntime,
  inputs: MachineInputs,
  outputs: MachineOutputs,
): MachineOutputs {
  const wanted = allKeys(inputs, runtime.deploymentSshPublicKeys());
  if (outputs.attachedSshPublicKeys.length === 0) return { ...outputs, attachedSshPublicKeys: wanted };
  if (missingKeys(outputs, inputs, runtime.deploymentSshPublicKeys()).length === 0) return outputs;
  const cause = new ProviderError(
    'invalid',
    `${client.provider} lets no further key into a machine that was bought: add it over SSH, or replace the machine`,
  );
  throw new KeyError(outputs, cause);
}

async function readMachine(
  provider: ProviderName,
  runtime: PurchaseRuntime,
  id: string,
  props: Properties,
): ReturnType<DynamicCrud['read']> {
  const observed = await runtime.client(provider).readInstance(id, runtime.signal());
  if (observed === null) return {};
  return { id, props: { ...withObserved(props as unknown as MachineOutputs, observed) } };
}

/** Update means "ensure": label, bid and keys as wanted, whatever was half done before; returns the full outputs. */
async function ensureMachine(
  provider: ProviderName,
  runtime: PurchaseRuntime,
  id: string,
  olds: Properties,
  news: Properties,
): Promise<{ outs: Properties }> {
  const inputs = readInputs(news);
  const client = runtime.client(provider);
  const signal = runtime.signal();
  // An adopted machine's state holds what was wanted only: what it lacks is filled in before anything is changed.
  const known = olds as Partial<MachineOutputs>;
  const label = inputs.label ?? known.label ?? runtime.labelFor(inputs.resourceKey);
  const bought: MachineOutputs = {
    ...outputsOf(inputs, provider, id, known.label ?? label),
    ...known,
    providerInstanceId: id,
  };
  const observed = await client.readInstance(id, signal);
  if (observed === null)
    throw new ProviderError('not_found', `instance ${id} is gone at ${provider}; refresh the stack`);
  let outputs = withObserved(bought, observed);
  try {
    if (observed.label !== label) {
      if (observed.label !== null && observed.label !== bought.label)
        throw relabelled(id, observed.label, bought.label);
      await client.setLabel(id, label, signal);
    }
    outputs = { ...outputs, label };
    const bid = inputs.bidMicroUsdPerHour;
    if (bid !== null && bid !== bought.bidMicroUsdPerHour) await client.changeBid(id, BigInt(bid), signal);
    outputs = { ...outputs, bidMicroUsdPerHour: bid };
    outputs = await attachKeys(runtime, client, inputs, outputs);
  } catch (error) {
    throw new PartialFailure(id, { ...(error instanceof KeyError ? error.outputs : outputs) }, error);
  }
  return { outs: { ...outputs } };
}

async function deleteMachine(
  provider: ProviderName,
  runtime: PurchaseRuntime,
  id: string,
  props: Properties,
  timings: CrudTimings,
): Promise<void> {
  runtime.crashPoint('delete_entered');
  const { duplicateInstanceIds, label: known } = props as unknown as MachineOutputs;
  const { resourceKey } = props as { resourceKey?: unknown };
  // What was found of an interrupted create may be known by its inputs only.
  const label = known ?? (typeof resourceKey === 'string' ? runtime.labelFor(resourceKey) : null);
  if (typeof label !== 'string' || label === '')
    throw new ProviderError('invalid', `the state of instance ${id} has no label`);
  await destroyVerified(runtime.client(provider), { providerInstanceId: id, label }, timings, {
    signal: runtime.signal(),
    crashPoint: runtime.crashPoint,
  });
  if ((duplicateInstanceIds ?? []).length > 0)
    runtime.progress(label, `duplicates destroyed too: ${duplicateInstanceIds.join(', ')}`);
  runtime.crashPoint('delete_verified');
}

function relabelled(id: string, found: string, expected: string): ProviderError {
  return new ProviderError(
    'invalid',
    `instance ${id} carries the label "${found}" at the vendor, not "${expected}": it is not ours to change`,
  );
}

function throwIfCanceled(signal: AbortSignal): void {
  if (signal.aborted) throw new ProviderError('canceled', 'canceled after the purchase');
}
