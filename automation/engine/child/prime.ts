/** What a fresh process would otherwise pay for in its first update: the SDK's modules and its function serialiser. */
import * as pulumi from '@pulumi/pulumi';
import { loadProgram } from '../../../stacks/catalogue.ts';

export async function primeSdk(): Promise<void> {
  await loadProgram('instance');
  await pulumi.runtime.serializeFunction(() => 0, { allowSecrets: true });
}
