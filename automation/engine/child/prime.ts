/** What a fresh process would otherwise pay for in its first update: the modules of the SDK, the program and the providers. */
import '@pulumi/pulumi/automation/index.js';
import { loadProgram } from '../../../stacks/catalogue.ts';
import { makeSdkLean } from './lean-sdk.ts';

export async function primeSdk(): Promise<void> {
  makeSdkLean();
  await loadProgram('instance');
}
