/** One machine rented from Lambda, as a Pulumi resource. What it does stands in crud.ts; this is its face to programs. */
import type { CustomResourceOptions } from '@pulumi/pulumi/resource.js';
import { RentedMachine, type RentedMachineArgs } from '../machine-resource.ts';

/** Lambda has no interruptible machines and boots its own image; keys are let in at the launch only: further ones replace the machine. */
export type LambdaInstanceArgs = RentedMachineArgs;

export class LambdaInstance extends RentedMachine {
  constructor(name: string, args: LambdaInstanceArgs, options: CustomResourceOptions = {}) {
    super('lambda', name, args, options);
  }
}
