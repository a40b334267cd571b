/** One machine rented from RunPod, as a Pulumi resource. What it does stands in crud.ts; this is its face to programs. */
import type { CustomResourceOptions } from '@pulumi/pulumi/resource.js';
import { RentedMachine, type RentedMachineArgs } from '../machine-resource.ts';

/** RunPod has no interruptible machines, and lets keys in at the purchase only: adding one later is refused. */
export type RunpodInstanceArgs = RentedMachineArgs;

export class RunpodInstance extends RentedMachine {
  constructor(name: string, args: RunpodInstanceArgs, options: CustomResourceOptions = {}) {
    super('runpod', name, args, options);
  }
}
