import { describe, expect, it } from 'vitest';
import { findPendingCreates, type LookUpTools } from '../../../automation/engine/find-pending.ts';
import type { UndecidedPending } from '../../../automation/engine/undecided-pending.ts';
import type { RunResult } from '../../../automation/engine/protocol.ts';
import type { LookUpCandidate, StateBackend } from '../../../automation/engine/state-backend.ts';
import type { StackResource } from '../../../domain/state/stack-state.ts';
import type { PendingDecision } from '../../../domain/pending-creates/decision.ts';
import type { LookUpAnswer, LookUpArgs } from '../../../domain/pending-creates/look-up.ts';

const MARKS = { 'muster-stack': 'train', 'muster-deployment': 'dep' };
const PROVIDER = 'urn:pulumi:s::muster::pulumi:providers:aws::train-aws::uuid';
const ROLE = 'aws:iam/role:Role';
const VPC = 'aws:ec2/vpc:Vpc';
const DONE: RunResult = { isOk: true, errorText: null, failures: {}, changes: {}, outputs: {}, steps: [], drift: [] };

const role = pending(ROLE, 'node', { name: 'train-node', tags: MARKS });
const vpc = pending(VPC, 'vpc', { tags: { ...MARKS, Name: 'train-vpc' } });
const key = pending('aws:iam/accessKey:AccessKey', 'use', { user: 'train-use' });

describe('pending creates at clouds', () => {
  it('that a read finds are taken over with what the provider told; the others are believed absent', async () => {
    const { tools, runs } = createTools({ there: { 'train-node': { arn: 'arn:role', tags: MARKS } } });
    const found = await look(tools, [role, pending(ROLE, 'cluster', { name: 'train-cluster' })]);
    expect(found).toEqual({ [role.urn]: { id: 'train-node', outputs: { arn: 'arn:role', tags: MARKS } } });
    expect(runs).toEqual(['refresh']);
  });

  it('are asked for once, whatever their number, and what is told is read before it is believed', async () => {
    const mapping = (id: string, name: string) => ({
      resourceArn: `arn:aws:ec2:r:1:vpc/${id}`,
      tags: { ...MARKS, Name: name },
    });
    const resourceTagMappingLists = [mapping('vpc-gone', 'train-vpc'), mapping('vpc-1', 'train-vpc')];
    const { tools, runs, asked } = createTools({
      answers: [{ value: { resourceTagMappingLists } }],
      there: { 'vpc-1': { tags: MARKS } },
    });
    const other = pending(VPC, 'other', { tags: { ...MARKS, Name: 'train-other' } });
    expect(await look(tools, [vpc, other])).toMatchObject({ [vpc.urn]: { id: 'vpc-1' } });
    expect(runs).toEqual(['preview', 'refresh']);
    expect(asked[0]?.providers).toMatchObject([{ package: 'aws', inputs: { region: 'r' }, questions: [{}] }]);
  });

  it('that the state has already by another name are not taken twice', async () => {
    const accessKeys = [{ accessKeyId: 'AKIA-OLD' }, { accessKeyId: 'AKIA-NEW' }];
    const { tools } = createTools({ answers: [{ value: { accessKeys } }], there: { 'AKIA-OLD': {}, 'AKIA-NEW': {} } });
    const found = await look(tools, [key], [{ ...key, id: 'AKIA-OLD' }]);
    expect(found).toEqual({ [key.urn]: { id: 'AKIA-NEW', outputs: {}, isUseless: true } });
  });

  it('have to be decided, with their names, where nothing tells: no rule, two of them, another stack’s', async () => {
    const accessKeys = [{ accessKeyId: 'AKIA-1' }, { accessKeyId: 'AKIA-2' }];
    const { tools } = createTools({
      answers: [{ value: { accessKeys } }],
      there: { 'AKIA-1': {}, 'AKIA-2': {}, 'train-node': { tags: {} } },
    });
    const unruled = pending('aws:rds/instance:Instance', 'db', {});
    const failure = await look(tools, [unruled, key, role]).catch((error: unknown) => error);
    expect(failure).toMatchObject({ kind: 'invalid' });
    const { message } = failure as Error;
    expect(message).toMatch(/db \(aws:rds\/instance:Instance\).*nothing is known of how to find its type/);
    expect(message).toMatch(/there are AKIA-1 and AKIA-2/);
    expect(message).toMatch(/train-node exists and does not have the tags of this stack/);
    expect((failure as UndecidedPending).resources.map(({ name, found }) => [name, found])).toEqual([
      ['db', []],
      ['use', ['AKIA-1', 'AKIA-2']],
      ['node', ['train-node']],
    ]);
  });
});

describe('what a person has decided', () => {
  const decisions = (decision: PendingDecision) => ({ [role.urn]: decision });

  it('to import is taken over whatever its tags say, and nothing else is asked of it', async () => {
    const { tools, runs } = createTools({ there: { 'other-name': { tags: {} } }, isSettled: false });
    const found = await look(tools, [role], [], decisions({ kind: 'import', id: 'other-name' }));
    expect(found).toEqual({ [role.urn]: { id: 'other-name', outputs: { tags: {} } } });
    expect(runs).toEqual(['refresh']);
  });

  it('to clear is not asked at all', async () => {
    const { tools, runs } = createTools({ isSettled: false });
    expect(await look(tools, [role], [], decisions({ kind: 'clear' }))).toEqual({});
    expect(runs).toEqual([]);
  });

  it.each([
    ['is not there', [], /train-x cannot be imported: there is none/],
    ['is another resource’s', [{ ...role, name: 'old', id: 'train-x' }], /train-x cannot be imported: it is old/],
  ])('to import and that %s has to be decided again', async (_what, known, message) => {
    const { tools } = createTools({});
    const failure = look(tools, [role], known, decisions({ kind: 'import', id: 'train-x' }));
    await expect(failure).rejects.toMatchObject({ message: expect.stringMatching(message) as string });
  });

  it('of one leaves the others to be looked up', async () => {
    const other = pending('aws:rds/instance:Instance', 'db', {});
    const { tools } = createTools({ there: { 'train-node': { tags: MARKS } } });
    const found = await look(tools, [role, other], [], { [other.urn]: { kind: 'clear' } });
    expect(Object.keys(found)).toEqual([role.urn]);
  });
});

describe('nothing is assumed and the look is repeated', () => {
  it.each([
    ['error: reading role: api error Throttling: Rate exceeded', 'rate_limited'],
    ['error: reading role: StatusCode: 403, AccessDenied', 'auth'],
    ['error: reading role: dial tcp: i/o timeout', 'retryable'],
  ])('when a read fails: %s', async (errorText, kind) => {
    const { tools, closed } = createTools({ result: { isOk: false, errorText } });
    await expect(look(tools, [role])).rejects.toMatchObject({ kind });
    expect(closed()).toBe(true);
  });

  it('when a question has no answer', async () => {
    const { tools } = createTools({ answers: [{ trouble: 'ExpiredToken: credentials have expired' }] });
    await expect(look(tools, [vpc])).rejects.toMatchObject({ kind: 'auth' });
  });

  it('while it is still being made, and while an absence is too new to be believed', async () => {
    const making = createTools({ there: { 'train-node': { tags: MARKS, status: 'CREATING' } } });
    await expect(look(making.tools, [role])).rejects.toMatchObject({ kind: 'retryable' });
    const fresh = createTools({ isSettled: false });
    await expect(look(fresh.tools, [role])).rejects.toMatchObject({ kind: 'retryable' });
  });
});

function pending(type: string, name: string, inputs: Record<string, unknown>): StackResource {
  return {
    urn: `urn:pulumi:s::muster::${type}::${name}`,
    name,
    type,
    id: null,
    parent: null,
    provider: PROVIDER,
    isProtected: false,
    inputs,
    outputs: {},
    initErrors: [],
  };
}

function look(
  tools: LookUpTools,
  some: StackResource[],
  resources: StackResource[] = [],
  decisions: Record<string, PendingDecision> = {},
) {
  return findPendingCreates(tools, 's', { resources, pendingCreates: some }, some, decisions);
}

/** `there`: what a refresh leaves, by id. */
function createTools(scene: {
  there?: Record<string, Record<string, unknown>>;
  answers?: LookUpAnswer[];
  result?: Partial<RunResult>;
  isSettled?: boolean;
}) {
  const { there = {}, answers = [], result = {}, isSettled = true } = scene;
  const runs: string[] = [];
  const asked: LookUpArgs[] = [];
  let open: readonly LookUpCandidate[] | null = null;
  const backend: Partial<StateBackend> = {
    readProvider: () => Promise.resolve({ region: 'r' }),
    openLookUp(name, candidates) {
      open = candidates;
      return Promise.resolve(`${name}.look-up`);
    },
    closeLookUp() {
      open = null;
      return Promise.resolve();
    },
    readState: () =>
      Promise.resolve({
        resources: (open ?? []).flatMap(({ id }, index) =>
          there[id] ? [{ ...role, id, name: `any~${index}`, outputs: there[id] }] : [],
        ),
        pendingCreates: [],
      }),
  };
  const tools: LookUpTools = {
    backend: backend as StateBackend,
    isSettled: () => isSettled,
    run(request) {
      runs.push(request.update);
      if (request.program) asked.push(request.program.args as LookUpArgs);
      return Promise.resolve({ ...DONE, outputs: { answers: [answers] }, ...result });
    },
  };
  return { tools, runs, asked, closed: () => open === null };
}
