/** A mismatch: in what a machine that a provider lists differs from what was bought. Only what both sides tell is compared. */
import { isSameGpuModel } from './gpu-model.ts';
import { formatUsd, type MicroUsd } from './money.ts';
import type { ObservedInstance } from './observed-instance.ts';

export interface BoughtMachine {
  label: string;
  machineId: string | null;
  gpu: string | null;
  gpuCount: number | null;
  priceMicroUsdPerHour: MicroUsd | null;
  /** The container image that was ordered; null: not known, or the vendor boots its own. */
  image: string | null;
}

/** Vendors round; a price within this of the one recorded is the same. */
const PRICE_TOLERANCE_PERCENT = 1n;

/** One phrase for each difference; empty where the machine is as bought. */
export function describeDifferences(bought: BoughtMachine, machine: ObservedInstance): string[] {
  const differences: string[] = [];
  if (machine.label !== bought.label) {
    differences.push(`label ${machine.label === null ? 'none' : JSON.stringify(machine.label)}`);
  }
  if (differ(bought.machineId, machine.machineId)) {
    differences.push(`host ${machine.machineId} instead of ${bought.machineId}`);
  }
  if (bought.gpu !== null && machine.gpu !== null && !isSameGpuModel(bought.gpu, machine.gpu)) {
    differences.push(`${machine.gpu} instead of ${bought.gpu}`);
  }
  if (differ(bought.gpuCount, machine.gpuCount)) {
    differences.push(`${machine.gpuCount} GPUs instead of ${bought.gpuCount}`);
  }
  if (bought.image !== null && machine.image !== null && !isSameImage(bought.image, machine.image)) {
    differences.push(`image ${machine.image} instead of ${bought.image}`);
  }
  const price = bought.priceMicroUsdPerHour;
  const asked = machine.priceMicroUsdPerHour;
  // A stopped machine costs its disk only: that is no other price.
  if (machine.status === 'running' && price !== null && asked !== null && isOtherPrice(price, asked)) {
    differences.push(`$${formatUsd(asked)} an hour instead of $${formatUsd(price)}`);
  }
  return differences;
}

/** Vendors show an image as it was ordered, or with the registry, the library folder or the tag that Docker would add. */
export function isSameImage(a: string, b: string): boolean {
  return fullImage(a) === fullImage(b);
}

function fullImage(image: string): string {
  const bare = image
    .trim()
    .replace(/^(index\.)?docker\.io\//, '')
    .replace(/^library\//, '');
  return /[:@][^/]*$/.test(bare) ? bare : `${bare}:latest`;
}

function isOtherPrice(bought: MicroUsd, asked: MicroUsd): boolean {
  const difference = asked > bought ? asked - bought : bought - asked;
  return difference * 100n > bought * PRICE_TOLERANCE_PERCENT;
}

function differ<T>(recorded: T | null, observed: T | null): boolean {
  return recorded !== null && observed !== null && recorded !== observed;
}
