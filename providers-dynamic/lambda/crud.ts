/** The dynamic resource of one Lambda instance: the common one of machine-crud.ts over Lambda's client. */
import type { DynamicCrud } from '../dynamic-crud.ts';
import { createMachineCrud, type CrudTimings } from '../machine-crud.ts';
import type { PurchaseRuntime } from '../purchase-runtime.ts';

/** Several resources may be created at once; nothing is kept between calls. */
export function createLambdaCrud(runtime: PurchaseRuntime, timings?: CrudTimings): DynamicCrud {
  return createMachineCrud('lambda', runtime, timings);
}
