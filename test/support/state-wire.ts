/** A person's CLI and its engine, played request by request. */
import { inTransaction } from '../../db/database.ts';
import { insertStateStack } from '../../db/state-stacks.ts';
import { makeStackKey } from '../../secrets/stack-key.ts';
import type { ApiServer } from './api-server.ts';

/** Towards one stack. */
export interface StateWire {
  send(method: string, part: string, body?: unknown, authorization?: string): Promise<{ status: number; body: Loose }>;
  /** Takes the stack with a new update. */
  begin(kind?: string, options?: object): Promise<{ id: string; lease: string; status: number }>;
  /** Under an update's own token. */
  write(update: { id: string; lease: string }, method: string, part: string, body: unknown): Promise<number>;
}

/** Bodies are looked into freely: a test that reads what is not there fails. */
// oxlint-disable-next-line typescript/no-explicit-any
type Loose = any;

/** @param stack `project/name` */
export function createStateWire(url: string, key: string, stack: string): StateWire {
  const wire: StateWire = {
    async send(method, part, body, authorization = `token ${key}`) {
      const reply = await fetch(`${url}/api/stacks/organization/${stack}${part}`, {
        method,
        headers: {
          authorization,
          'user-agent': 'pulumi-cli/1 (v3.259.0; linux; cmd=up)',
          'content-type': 'application/json',
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await reply.text();
      return { status: reply.status, body: text === '' ? null : JSON.parse(text) };
    },
    async begin(kind = 'update', options = {}) {
      const made = await wire.send('POST', `/${kind}`, { options, config: {}, metadata: { message: 'by hand' } });
      const id = made.body.updateID as string;
      const started = await wire.send('POST', `/update/${id}`, { journalVersion: 1 });
      return { id, lease: started.body.token as string, status: started.status };
    },
    async write({ id, lease }, method, part, body) {
      return (await wire.send(method, `/update/${id}/${part}`, body, `update-token ${lease}`)).status;
    },
  };
  return wire;
}

/** As our runner makes it before the first update of a stack of ours. */
export async function makeEngineStack({ database, deps }: ApiServer, stackId: string, name: string): Promise<void> {
  await inTransaction(database.kysely, async (tx) => {
    const { org_id: orgId } = await tx
      .selectFrom('stacks')
      .select('org_id')
      .where('id', '=', stackId)
      .executeTakeFirstOrThrow();
    const key = (uuid: string) => ({ owner: uuid, sealed: makeStackKey(deps.envelope, uuid) });
    await insertStateStack(tx, { orgId, project: 'muster', name, isEngine: true, tags: {}, key });
  });
}

const VPC = 'aws:ec2/vpc:Vpc';

export function makeVpc(stack: string, name: string, type = VPC) {
  const project = stack.split('/')[0];
  return {
    urn: `urn:pulumi:${stack.split('/')[1]}::${project}::${type}::${name}`,
    type,
    custom: true,
    inputs: { cidrBlock: '10.0.0.0/16' },
  };
}

/** The journal of a create; `made` null: it began and never ended. */
export function makeCreate(stack: string, name: string, operationId: number, made: string | null, type = VPC) {
  const resource = makeVpc(stack, name, type);
  const entry = { version: 1, operationID: operationId, removeOld: null, removeNew: null };
  const began = { ...entry, kind: 0, sequenceID: operationId * 2 - 1, operation: { resource, type: 'creating' } };
  const ended = { ...entry, kind: 1, sequenceID: operationId * 2, state: { ...resource, id: made } };
  return made === null ? [began] : [began, ended];
}

/** Events of the engine as its CLI sends them. */
export const engineEvents = {
  started: (sequence: number, stack: string, name: string, op = 'create') => ({
    sequence,
    timestamp: Math.floor(Date.now() / 1000),
    resourcePreEvent: {
      metadata: { ...metadata(stack, name), op, old: null, new: { inputs: { secret: 'swordfish' } } },
    },
  }),
  done: (sequence: number, stack: string, name: string, op = 'create') => ({
    sequence,
    timestamp: Math.floor(Date.now() / 1000),
    resOutputsEvent: { metadata: { ...metadata(stack, name), op, old: null, new: { id: `id-${name}` } } },
  }),
  failed: (sequence: number, stack: string, name: string) => ({
    sequence,
    timestamp: Math.floor(Date.now() / 1000),
    resOpFailedEvent: { metadata: { ...metadata(stack, name), op: 'create' }, status: 1, steps: 1 },
  }),
  error: (sequence: number, message: string) => ({
    sequence,
    timestamp: Math.floor(Date.now() / 1000),
    diagnosticEvent: { message, color: 'raw', severity: 'error' },
  }),
  stdout: (sequence: number, message: string) => ({
    sequence,
    timestamp: Math.floor(Date.now() / 1000),
    stdoutEvent: { message, color: 'raw' },
  }),
  summary: (sequence: number, resourceChanges: Record<string, number>) => ({
    sequence,
    timestamp: Math.floor(Date.now() / 1000),
    summaryEvent: { resourceChanges, durationSeconds: 3 },
  }),
};

function metadata(stack: string, name: string) {
  const { urn, type } = makeVpc(stack, name);
  return { urn, type, diffs: null, detailedDiff: null };
}
