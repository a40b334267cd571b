/** One machine rented from Vast.ai, as a Pulumi resource. What it does stands in crud.ts; this is its face to programs. */
import type { CustomResourceOptions } from '@pulumi/pulumi/resource.js';
import { RentedMachine, type RentedMachineArgs } from '../machine-resource.ts';

export type VastaiInstanceArgs = RentedMachineArgs;

export class VastaiInstance extends RentedMachine {
  constructor(name: string, args: VastaiInstanceArgs, options: CustomResourceOptions = {}) {
    super('vastai', name, args, options);
  }
}
