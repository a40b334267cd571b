/** What a fresh process would otherwise pay for in its first update: the modules of the SDK, the program and the providers. */
import { createRequire } from 'node:module';
import '@pulumi/pulumi/automation/index.js';
import { loadProgram } from '../../../stacks/catalogue.ts';

export async function primeSdk(): Promise<void> {
  dropPromiseBookkeeping();
  await loadProgram('instance');
}

/**
 * The SDK wraps each of the dozens of promises of a resource with a stack trace and two more promises, to name those that a program
 * forgot at its end: a third of the program's time with many resources (bench/stacks.ts). Our programs are our own; they need no such
 * search. An SDK that no longer has the function is left as it is.
 */
export function dropPromiseBookkeeping(): void {
  const debuggable = createRequire(import.meta.url)('@pulumi/pulumi/runtime/debuggable.js') as {
    debuggablePromise?: <T>(promise: Promise<T>) => Promise<T>;
  };
  if (typeof debuggable.debuggablePromise === 'function') debuggable.debuggablePromise = (promise) => promise;
}
