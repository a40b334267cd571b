import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { answerHostQuestion } from '../../../automation/operations/host-questions.ts';
import type { StepContext } from '../../../automation/operations/step.ts';
import { acceptStackOperation } from '../../../db/accept-stack.ts';
import { insertCredential } from '../../../db/credentials.ts';
import { inTransaction } from '../../../db/database.ts';
import { requestForget } from '../../../db/hosts.ts';
import { registerNode } from '../../../db/nodes.ts';
import { claimOperation } from '../../../db/operations.ts';
import { insertStack, type StackRow } from '../../../db/stacks.ts';
import type { HostJoin } from '../../../providers-dynamic/host-runtime.ts';
import { hashAgentToken } from '../../../secrets/agent-token.ts';
import { createEnvelope } from '../../../secrets/envelope.ts';
import { ACTOR, createFleetDatabase, type FleetDatabase } from '../../support/fleet-database.ts';

const URL = 'http://control.example';
const envelope = createEnvelope(randomBytes(32));

let fleet: FleetDatabase;
beforeAll(async () => {
  fleet = await createFleetDatabase({ poolSize: 4 });
  await inTransaction(fleet.db, (tx) =>
    insertCredential(tx, envelope, {
      orgId: fleet.orgId,
      name: 'dc-key',
      kind: 'ssh_private_key',
      value: 'the key',
      publicPart: null,
      createdBy: ACTOR.id,
    }),
  );
});
afterAll(() => fleet?.close());

let serial = 0;
async function openStep(orgId = fleet.orgId, agentUrl: string | null = URL) {
  const { db, queue } = fleet;
  const { stack, operation } = await inTransaction(db, async (tx) => {
    const made = (await insertStack(tx, {
      orgId,
      kind: 'onprem',
      title: `lab-${++serial}`,
      config: {},
      owner: 'ada',
      costCentre: 'x',
      ceilingMicroUsdPerHour: null,
      protect: false,
      onDrift: 'report',
      createdBy: ACTOR.id,
    })) as StackRow;
    return {
      stack: made,
      operation: await acceptStackOperation(tx, queue, { stack: made, kind: 'up_stack', actor: ACTOR }),
    };
  });
  const claimed = await claimOperation(db, operation.id, 'worker-1');
  if (claimed.kind !== 'claimed') throw new Error(claimed.kind);
  const context = { db, envelope, agentUrl, claim: claimed.claim } as unknown as StepContext;
  const ask = (question: Parameters<typeof answerHostQuestion>[2], input: unknown) =>
    answerHostQuestion(context, stack, question, input) as Promise<unknown>;
  const place = {
    address: '10.0.0.1',
    port: 22,
    user: 'root',
    hostKeySha256: 'SHA256:x',
    credentialRef: 'dc-key',
    labels: {},
  };
  const join = (host: string, wantsToken: boolean, carries: string | null = null) =>
    ask('joinHost', { host: { host, ...place }, wantsToken, carries }) as Promise<HostJoin | null>;
  return { ask, join, stack };
}

const register = (token: string, nonce = 'n') =>
  inTransaction(fleet.db, (tx) =>
    registerNode(tx, {
      tokenHash: hashAgentToken(token),
      nonceHash: Buffer.from(nonce),
      keyHash: randomBytes(32),
      agentVersion: '1',
      hostname: null,
    }),
  );

describe('the key to a host', () => {
  it("is given to stacks of its org, and to no other's", async () => {
    const own = await openStep();
    expect(await own.ask('sshKey', { credentialRef: 'dc-key' })).toEqual({ privateKey: 'the key' });
    await expect(own.ask('sshKey', { credentialRef: 'none' })).rejects.toMatchObject({ kind: 'auth' });
    const other = await openStep(await fleet.makeOrg());
    await expect(other.ask('sshKey', { credentialRef: 'dc-key' })).rejects.toMatchObject({ kind: 'auth' });
  });
});

describe('joining', () => {
  it('gives the same host the same node, a new token only where one is wanted, and the newest only is good', async () => {
    const { join } = await openStep();
    const look = (await join('box', false)) as HostJoin;
    expect(look).toMatchObject({ url: URL, token: null, mayTakeOver: true });
    const first = (await join('box', true)) as HostJoin;
    const second = (await join('box', true)) as HostJoin;
    expect([first.nodeId, second.nodeId]).toEqual([look.nodeId, look.nodeId]);
    expect(await register(first.token as string)).toMatchObject({ kind: 'refused', reason: 'unknown' });
    expect(await register(second.token as string)).toMatchObject({ kind: 'registered', nodeId: look.nodeId });
    expect((await join('box', true, look.nodeId))?.token).toBeNull();
    expect((await join('other', true))?.nodeId).not.toBe(look.nodeId);
  });

  it('of a host that carries the agent of a node that lives is not offered a token', async () => {
    const { join } = await openStep();
    const live = (await join('live', true)) as HostJoin;
    await register(live.token as string);
    expect(await join('second', true, live.nodeId)).toMatchObject({ mayTakeOver: false, token: null });
    expect(await join('second', true, 'nod_aaaaaaaaaaaaaaaa')).toMatchObject({
      mayTakeOver: true,
      token: expect.any(String),
    });
  });

  it('is not offered where agents are off', async () => {
    const { join } = await openStep(fleet.orgId, null);
    expect(await join('box', true)).toBeNull();
  });
});

describe('a host that is gone', () => {
  it('is forgotten only when a person asked, and its agent may not come back', async () => {
    const { ask, join } = await openStep();
    const { nodeId } = (await join('box', true)) as HostJoin;
    expect(await ask('mayForgetHost', { host: 'box' })).toBe(false);
    await inTransaction(fleet.db, (tx) => requestForget(tx, nodeId));
    // Looking how to uninstall is no reason to forget that.
    await join('box', false);
    expect(await ask('mayForgetHost', { host: 'box' })).toBe(true);
    const again = (await join('box', true)) as HostJoin;
    expect(await ask('mayForgetHost', { host: 'box' })).toBe(false);
    await ask('hostRemoved', { host: 'box' });
    expect(await register(again.token as string)).toMatchObject({ kind: 'refused' });
    await ask('hostRemoved', { host: 'box' });
    expect(await ask('mayForgetHost', { host: 'nobody' })).toBe(false);
  });
});

describe('a question about something else', () => {
  it('is left to others', async () => {
    const { ask } = await openStep();
    expect(ask('nextCandidate', {})).toBeUndefined();
  });
});
