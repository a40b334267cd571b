/**
 * Pending creates of stacks that people made: a create whose end nobody saw. Whether the cloud made it is asked of the cloud, by what
 * names it there; only then may the next update run, because the engine itself would make it a second time.
 */
import type { StackRow } from '../../db/stacks.ts';
import type { StackResource } from '../../domain/state/stack-state.ts';
import { UndecidedPending } from '../engine/undecided-pending.ts';
import { hostId } from '../../domain/on-prem-host.ts';
import type { StepContext } from './step.ts';

/** @returns the id at the cloud, null when it has none. Throws UndecidedPending where that cannot be told. */
export function findPendingResource(
  _context: StepContext,
  stack: StackRow,
  resource: StackResource,
): Promise<string | null> {
  // A right to join that nobody took up: another one is asked for, and this one is worth nothing then.
  if (resource.type.startsWith('pulumi-nodejs:dynamic/standby-agent:')) return Promise.resolve(null);
  const onHost = hostOfPending(resource);
  if (onHost !== null) return Promise.resolve(onHost);
  const { urn, name, type } = resource;
  const why = `nothing is known of how to find its type in ${stack.title}`;
  return Promise.reject(new UndecidedPending([{ urn, name, type, why, found: [] }]));
}

/** On a host of ours nothing is made twice: its place is its id, and what was begun there is finished or removed by it. */
function hostOfPending({ type, inputs }: StackResource): string | null {
  if (!/^pulumi-nodejs:dynamic\/(ssh-host|k3s):/.test(type)) return null;
  return hostId({ address: String(inputs['address']), port: Number(inputs['port']) });
}
