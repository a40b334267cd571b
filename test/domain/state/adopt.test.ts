import { describe, expect, it } from 'vitest';
import { withAdoptedImports } from '../../../domain/state/adopt.ts';
import type { Deployment, PendingOperation } from '../../../domain/state/deployment.ts';

const urn = (name: string) => `urn:pulumi:dev::proj::aws:ec2/vpc:Vpc::${name}`;
const resource = (name: string, id?: string) => ({
  urn: urn(name),
  type: 'aws:ec2/vpc:Vpc',
  custom: true,
  inputs: { name },
  ...(id === undefined ? {} : { id }),
});
const creating = (name: string): PendingOperation => ({ type: 'creating', resource: resource(name) });
const importing = (name: string, id: string): PendingOperation => ({ type: 'importing', resource: resource(name, id) });

describe('a pending create that a person gave an id', () => {
  const kept: Deployment = { resources: [resource('a', 'id-a')], pending_operations: [creating('b'), creating('c')] };

  it('becomes a resource that the next update looks at again; the others stay pending', () => {
    const given = { ...kept, pending_operations: [importing('b', 'id-b'), creating('c')] };
    const taken = withAdoptedImports(kept, given);
    expect(taken.resources).toMatchObject([
      { id: 'id-a' },
      { urn: urn('b'), id: 'id-b', outputs: { name: 'b' }, initErrors: [expect.stringContaining('adopted')] },
    ]);
    expect(taken.pending_operations).toEqual([creating('c')]);
  });

  it('is not lost by the same edit that comes again, from before it was taken', () => {
    const given = { ...kept, pending_operations: [importing('b', 'id-b'), creating('c')] };
    const taken = withAdoptedImports(kept, given);
    const again = withAdoptedImports(taken, { ...kept, pending_operations: [importing('b', 'id-b')] });
    expect(again.resources).toEqual(taken.resources);
    expect(again.pending_operations).toEqual([]);
  });

  it('is only what was pending here: another state is taken as it is', () => {
    const given = { resources: [], pending_operations: [importing('x', 'id-x'), importing('b', '')] };
    expect(withAdoptedImports(kept, given)).toBe(given);
    expect(withAdoptedImports({}, kept)).toBe(kept);
  });
});
