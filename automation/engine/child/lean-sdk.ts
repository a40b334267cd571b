/**
 * Takes out of the SDK what it does for every resource and nobody here reads: with many resources more than half of a program's time
 * (bench/stacks.ts). Our programs are our own. An SDK that no longer has one of these is left as it is.
 */
import { createRequire } from 'node:module';

export function makeSdkLean(): void {
  // Every call of the SDK captures a stack.
  Error.stackTraceLimit = 2;
  const require = createRequire(import.meta.url);
  dropPromiseBookkeeping(require('@pulumi/pulumi/runtime/debuggable.js') as Debuggable);
  dropDebugMessages(require('@pulumi/pulumi/log/index.js') as Log);
  dropSourcePositions(require('@pulumi/pulumi/resource.js') as { Resource?: ResourceClass });
}

interface Debuggable {
  debuggablePromise?: <T>(promise: Promise<T>) => Promise<T>;
}

interface Log {
  debug?: (message: string) => Promise<void>;
}

interface ResourceClass {
  stackTrace?: (skip: number) => unknown[];
}

/** Each of the dozens of promises of a resource gets a stack trace and two more promises, to name those that a program forgot at its end. */
function dropPromiseBookkeeping(debuggable: Debuggable): void {
  if (typeof debuggable.debuggablePromise === 'function') debuggable.debuggablePromise = (promise) => promise;
}

/** Eight calls to the engine for each resource, one after the other; it shows them with `--debug` alone, which we never ask for. */
function dropDebugMessages(log: Log): void {
  if (typeof log.debug === 'function') log.debug = () => Promise.resolve();
}

/** The lines of the program behind each resource, with the whole stack: kept in the state, sent with every event, paths of this machine. */
function dropSourcePositions({ Resource }: { Resource?: ResourceClass }): void {
  if (typeof Resource?.stackTrace === 'function') Resource.stackTrace = () => [];
}
