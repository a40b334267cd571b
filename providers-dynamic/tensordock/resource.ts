/** One machine rented from TensorDock, as a Pulumi resource. What it does stands in crud.ts; this is its face to programs. */
import type { CustomResourceOptions } from '@pulumi/pulumi/resource.js';
import { RentedMachine, type RentedMachineArgs } from '../machine-resource.ts';

/** A whole virtual machine: `image` is one of the vendor's; another key or label replaces the machine. */
export type TensordockInstanceArgs = RentedMachineArgs;

export class TensordockInstance extends RentedMachine {
  constructor(name: string, args: TensordockInstanceArgs, options: CustomResourceOptions = {}) {
    super('tensordock', name, args, options);
  }
}
