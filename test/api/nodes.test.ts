import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Gpu, HeartbeatBody } from '../../api/contract/nodes.ts';
import { makeAgentToken } from '../../secrets/agent-token.ts';
import {
  listOffers,
  NO_PROGRAMS,
  startApiServer,
  type ApiServer,
  type Loose,
  type Reply,
} from '../support/api-server.ts';
import { recordMachine } from '../support/node-token.ts';

let server: ApiServer;
const rotation = { rotateKeyAfterMs: 86_400_000 };
beforeAll(async () => {
  server = await startApiServer({
    agents: {
      bundle: () => Promise.resolve({ text: 'console.log(1)\n', sha256: SHA256, version: '1.2.3' }),
      nodePrograms: NO_PROGRAMS,
      intervalMs: 10_000,
      get rotateKeyAfterMs() {
        return rotation.rotateKeyAfterMs;
      },
    },
  });
  await listOffers(
    server,
    Array.from({ length: 100 }, () => ({})),
  );
});
afterAll(() => server?.stop());

const SHA256 = createHash('sha256').update('console.log(1)\n').digest('hex');
const NONCE = 'n'.repeat(43);

const asAgent = (path: string, credential: string, body: unknown): Promise<Reply<Loose>> =>
  server.call('POST', `/api/v1/nodes/${path}`, { key: null, body, headers: { 'x-agent-api-key': credential } });
const register = (token: string, nonce = NONCE) =>
  asAgent('register', token, { nonce, agentVersion: '1.2.3', hostname: 'box' });

const GPU: Gpu = {
  index: 0,
  uuid: 'GPU-1',
  name: 'NVIDIA GeForce RTX 4090',
  busId: null,
  memoryTotalMib: 24564,
  memoryUsedMib: 512,
  memoryFreeMib: null,
  utilizationPercent: 3,
  memoryUtilizationPercent: null,
  temperatureC: 41,
  memoryTemperatureC: null,
  powerW: 24.5,
  powerLimitW: null,
  pstate: 'P8',
  eccUncorrected: null,
  migMode: null,
  migDevices: null,
  problem: null,
};

function beat(change: Partial<HeartbeatBody> = {}, gpus: Gpu[] | null = [GPU]): HeartbeatBody {
  return {
    bootId: 'boot-one',
    sequence: 1,
    agentVersion: '1.2.3',
    system: {
      hostname: 'box',
      os: null,
      kernel: '6.1',
      architecture: 'x64',
      cpuModel: null,
      cpuCount: 8,
      load1: 0.5,
      memoryTotalMib: 32_000,
      memoryAvailableMib: 30_000,
      diskTotalMib: null,
      diskFreeMib: null,
      uptimeSeconds: 12,
      agentRssMib: 50,
    },
    gpu: {
      verdict: gpus === null ? 'unknown' : 'healthy',
      reason: gpus === null ? 'nvidia-smi is not there' : null,
      readAt: '2026-11-21T12:00:00.000Z',
      driverVersion: null,
      gpus,
    },
    ...change,
  };
}

async function registered() {
  const machine = await recordMachine(server);
  const { body } = await register(machine.token);
  return { ...machine, nodeId: body.nodeId as string, key: body.key as string };
}

const seen = async (nodeId: string) => (await server.call('GET', `/api/v1/nodes/${nodeId}`)).body;

describe('registering', () => {
  it('gives a key of its own to the machine that the token belongs to', async () => {
    const { token, attemptId, instanceId } = await recordMachine(server);
    const reply = await register(token);
    expect(reply.status).toBe(201);
    expect(reply.body).toEqual({
      nodeId: expect.stringMatching(/^nod_/),
      key: expect.stringMatching(/^ma_/),
      intervalMs: 10_000,
    });
    expect(await seen(reply.body.nodeId)).toMatchObject({ attemptId, instanceId, status: 'online', health: 'unknown' });
    const attempt = await server.database.kysely
      .selectFrom('attempts')
      .select('agent_registered_at')
      .where('id', '=', attemptId)
      .executeTakeFirstOrThrow();
    expect(attempt.agent_registered_at).not.toBeNull();
  });

  it('works once: another agent with the same token is refused', async () => {
    const { token } = await recordMachine(server);
    expect((await register(token)).status).toBe(201);
    const replay = await register(token, 'x'.repeat(43));
    expect({ status: replay.status, detail: replay.body.detail }).toEqual({
      status: 401,
      detail: 'the token was used already',
    });
  });

  it('may be asked again by the same agent whose answer was lost, until its key was used', async () => {
    const { token } = await recordMachine(server);
    const first = await register(token);
    const again = await register(token);
    expect(again.body.nodeId).toBe(first.body.nodeId);
    expect((await asAgent('heartbeat', first.body.key, beat())).status).toBe(401);
    expect((await asAgent('heartbeat', again.body.key, beat())).status).toBe(200);
    expect((await register(token)).status).toBe(401);
  });

  it('at the same time with one token makes one node', async () => {
    const { token } = await recordMachine(server);
    const replies = await Promise.all(Array.from({ length: 8 }, (_, n) => register(token, `${n}`.repeat(43))));
    expect(replies.map(({ status }) => status).sort((a, b) => a - b)).toEqual([201, 401, 401, 401, 401, 401, 401, 401]);
  });

  it('is refused to an unknown token, an expired one, a key in its place, and for a machine that is being destroyed', async () => {
    expect((await register(makeAgentToken())).status).toBe(401);
    expect((await register('ma_somethingelse')).status).toBe(401);
    const { kysely } = server.database;
    const late = await recordMachine(server);
    await kysely
      .updateTable('node_tokens')
      .set({ expires_at: new Date(0) })
      .where('attempt_id', '=', late.attemptId)
      .execute();
    expect((await register(late.token)).body.detail).toBe('the token has expired');
    const ended = await recordMachine(server);
    await kysely.updateTable('attempts').set({ status: 'destroying' }).where('id', '=', ended.attemptId).execute();
    expect((await register(ended.token)).body.detail).toMatch(/being destroyed or gone/);
  });

  it('makes the node of the machine that the token was made for, whoever sends it and from wherever', async () => {
    const mine = await recordMachine(server);
    const other = await recordMachine(server);
    // An agent that got hold of another machine's token speaks for that machine, never for its own: addresses and names match nothing.
    const { body } = await register(other.token);
    expect(await seen(body.nodeId)).toMatchObject({ attemptId: other.attemptId, instanceId: other.instanceId });
    const own = await register(mine.token);
    expect(own.body.nodeId).not.toBe(body.nodeId);
    expect(await seen(own.body.nodeId)).toMatchObject({ attemptId: mine.attemptId, instanceId: mine.instanceId });
  });

  it('is refused for ever to a node that was forgotten: neither its key, nor its token and nonce, bring it back', async () => {
    const { nodeId, attemptId, token, key } = await registered();
    const { kysely } = server.database;
    await kysely.updateTable('attempts').set({ status: 'gone' }).where('id', '=', attemptId).execute();
    expect((await server.call('DELETE', `/api/v1/nodes/${nodeId}`)).status).toBe(204);
    expect((await register(token)).status).toBe(401);
    // Not even where the machine were there again.
    await kysely.updateTable('attempts').set({ status: 'ready' }).where('id', '=', attemptId).execute();
    expect((await register(token)).body.detail).toBe('the token was used already');
    expect((await asAgent('heartbeat', key, beat())).status).toBe(401);
    expect(await kysely.selectFrom('nodes').select('id').where('attempt_id', '=', attemptId).execute()).toEqual([]);
  });

  it('is written into the audit log with the agent as actor, without the token and the key', async () => {
    const { nodeId, token, key } = await registered();
    const rows = await server.database.kysely
      .selectFrom('audit_log')
      .selectAll()
      .where('target_id', '=', nodeId)
      .execute();
    expect(rows.map(({ action, actor_kind, actor_id }) => [action, actor_kind, actor_id])).toEqual([
      ['node.register', 'agent', nodeId],
    ]);
    const everything = JSON.stringify([rows.map(({ detail }) => detail), server.log]);
    expect(everything).not.toContain(token);
    expect(everything).not.toContain(key);
  });
});

describe('a heartbeat', () => {
  it('is recorded with system and GPUs', async () => {
    const { nodeId, key } = await registered();
    const reply = await asAgent('heartbeat', key, beat());
    expect(reply).toMatchObject({ status: 200, body: { accepted: true, intervalMs: 10_000 } });
    expect(await seen(nodeId)).toMatchObject({
      status: 'online',
      health: 'healthy',
      bootId: 'boot-one',
      reboots: 0,
      agentVersion: '1.2.3',
      system: { kernel: '6.1', cpuCount: 8 },
      gpu: { gpus: [{ name: 'NVIDIA GeForce RTX 4090', memoryUsedMib: 512 }] },
    });
  });

  it('that was overtaken or is repeated changes nothing', async () => {
    const { nodeId, key } = await registered();
    await asAgent('heartbeat', key, beat({ sequence: 7 }));
    for (const sequence of [7, 6, 0]) {
      const reply = await asAgent('heartbeat', key, beat({ sequence, agentVersion: 'old' }));
      expect(reply.body.accepted).toBe(false);
    }
    expect((await seen(nodeId)).agentVersion).toBe('1.2.3');
    expect((await asAgent('heartbeat', key, beat({ sequence: 8 }))).body.accepted).toBe(true);
  });

  it('of another boot is a reboot; one of the boot before it that comes late is none', async () => {
    const { nodeId, key } = await registered();
    await asAgent('heartbeat', key, beat({ sequence: 900 }));
    expect((await asAgent('heartbeat', key, beat({ bootId: 'boot-two', sequence: 1 }))).body.accepted).toBe(true);
    expect((await asAgent('heartbeat', key, beat({ sequence: 901 }))).body.accepted).toBe(false);
    expect(await seen(nodeId)).toMatchObject({ bootId: 'boot-two', reboots: 1 });
    const actions = await server.database.kysely
      .selectFrom('audit_log')
      .select('action')
      .where('target_id', '=', nodeId)
      .orderBy('seq')
      .execute();
    expect(actions.map(({ action }) => action)).toEqual(['node.register', 'node.reboot']);
  });

  it('with GPUs that could not be read leaves health unknown, and counts nothing as zero', async () => {
    const { nodeId, key } = await registered();
    await asAgent('heartbeat', key, beat({}, null));
    expect(await seen(nodeId)).toMatchObject({ health: 'unknown', healthReason: 'nvidia-smi is not there' });
    const sample = await server.database.kysely
      .selectFrom('node_samples')
      .selectAll()
      .where('node_id', '=', nodeId)
      .executeTakeFirstOrThrow();
    expect(sample).toMatchObject({
      verdict: 'unknown',
      gpu_percent: null,
      gpu_memory_used_mib: null,
      gpu_power_w: null,
    });
  });

  it('with other GPUs than promised makes the node failed', async () => {
    const { nodeId, key } = await registered();
    await asAgent('heartbeat', key, beat({}, [{ ...GPU, name: 'NVIDIA GeForce RTX 3060' }]));
    expect(await seen(nodeId)).toMatchObject({
      health: 'failed',
      healthReason: 'RTX 4090 promised, NVIDIA GeForce RTX 3060 seen',
    });
    await asAgent('heartbeat', key, beat({ sequence: 2 }, [GPU, { ...GPU, index: 1 }]));
    expect((await seen(nodeId)).healthReason).toBe('1 GPU promised, 2 seen');
  });

  it('is kept as one sample a minute', async () => {
    const { nodeId, key } = await registered();
    for (let sequence = 1; sequence < 5; sequence++) await asAgent('heartbeat', key, beat({ sequence }));
    const samples = await server.database.kysely
      .selectFrom('node_samples')
      .selectAll()
      .where('node_id', '=', nodeId)
      .execute();
    expect(samples.length).toBeLessThanOrEqual(2);
    expect(samples[0]).toMatchObject({ gpu_percent: 3, gpu_memory_used_mib: 512, load1: 0.5 });
  });

  it('is refused to a wrong key, to the one-time token and to an API key', async () => {
    const { token } = await registered();
    for (const credential of ['ma_wrong', token, server.adminKey]) {
      expect((await asAgent('heartbeat', credential, beat())).status).toBe(401);
    }
    expect((await server.call('POST', '/api/v1/nodes/heartbeat', { body: beat() })).status).toBe(403);
  });

  it('with unknown fields or a GPU list beyond reason is refused', async () => {
    const { key } = await registered();
    const extra = await asAgent('heartbeat', key, { ...beat(), moods: [] });
    expect(extra.body.errors).toEqual([{ path: 'moods', message: 'is not a known field' }]);
    expect(
      (
        await asAgent(
          'heartbeat',
          key,
          beat(
            {},
            Array.from({ length: 65 }, () => GPU),
          ),
        )
      ).status,
    ).toBe(422);
  });
});

describe("a node's key", () => {
  it('is replaced when it is old: the old one works until the new one is used', async () => {
    const { key } = await registered();
    rotation.rotateKeyAfterMs = 0;
    const offered = (await asAgent('heartbeat', key, beat({ sequence: 1 }))).body.key as string;
    expect(offered).toMatch(/^ma_/);
    // The answer was lost: the old key gets another offer, and the lost one is worth nothing.
    const second = (await asAgent('heartbeat', key, beat({ sequence: 2 }))).body.key as string;
    rotation.rotateKeyAfterMs = 86_400_000;
    expect((await asAgent('heartbeat', offered, beat({ sequence: 3 }))).status).toBe(401);
    const used = await asAgent('heartbeat', second, beat({ sequence: 4 }));
    expect(used).toMatchObject({ status: 200, body: { accepted: true } });
    expect(used.body.key).toBeUndefined();
    expect((await asAgent('heartbeat', key, beat({ sequence: 5 }))).status).toBe(401);
  });

  it('that was replaced can neither report nor register, and its replacement outlives the one-time token', async () => {
    const { key, token, attemptId } = await registered();
    rotation.rotateKeyAfterMs = 0;
    const next = (await asAgent('heartbeat', key, beat({ sequence: 1 }))).body.key as string;
    rotation.rotateKeyAfterMs = 86_400_000;
    await server.database.kysely
      .updateTable('node_tokens')
      .set({ expires_at: new Date(0) })
      .where('attempt_id', '=', attemptId)
      .execute();
    expect((await asAgent('heartbeat', next, beat({ sequence: 2 }))).body.accepted).toBe(true);
    expect((await asAgent('heartbeat', key, beat({ sequence: 3 }))).status).toBe(401);
    expect((await register(key)).status).toBe(401);
    expect((await register(token)).status).toBe(401);
  });

  it('is nowhere in the database, nor is the token: only what they hash to', async () => {
    const { key, token, nodeId } = await registered();
    const { kysely } = server.database;
    const rows = [
      await kysely.selectFrom('nodes').selectAll().where('id', '=', nodeId).execute(),
      await kysely.selectFrom('node_tokens').selectAll().execute(),
    ];
    const dump = JSON.stringify(rows, (_key, value: unknown) => (typeof value === 'bigint' ? value.toString() : value));
    expect(dump).not.toContain(key);
    expect(dump).not.toContain(token);
  });

  it('opens no other route', async () => {
    const { key } = await registered();
    const ways: Record<string, string>[] = [{ 'x-agent-api-key': key }, { authorization: `Bearer ${key}` }];
    for (const headers of ways) {
      for (const path of ['/api/v1/nodes', '/api/v1/instances', '/api/v1/fleet']) {
        expect((await server.call('GET', path, { key: null, headers })).status).toBe(401);
      }
    }
  });
});

describe('nodes as people see them', () => {
  it('go stale when they are not heard of, with how long', async () => {
    const { nodeId, key } = await registered();
    await asAgent('heartbeat', key, beat());
    const { kysely } = server.database;
    await kysely
      .updateTable('nodes')
      .set({ heartbeat_at: new Date(Date.now() - 42_000) })
      .where('id', '=', nodeId)
      .execute();
    const { status, statusReason } = await seen(nodeId);
    expect(status).toBe('stale');
    expect(statusReason).toMatch(/^no heartbeat for 4[23] s; one is due every 10 s$/);
    const stale = await server.call('GET', '/api/v1/nodes?status=stale');
    expect(stale.body.items.map(({ id }: Loose) => id)).toEqual([nodeId]);
    const online = await server.call('GET', '/api/v1/nodes?status=online&limit=500');
    expect(online.body.items.map(({ id }: Loose) => id)).not.toContain(nodeId);
  });

  it('are listed newest first by pages, and found by instance', async () => {
    const made = [await registered(), await registered()];
    const first = await server.call('GET', '/api/v1/nodes?limit=1');
    const second = await server.call('GET', `/api/v1/nodes?limit=1&cursor=${first.body.nextCursor}`);
    expect([first, second].map(({ body }) => body.items[0].id)).toEqual([made[1]?.nodeId, made[0]?.nodeId]);
    const found = await server.call('GET', `/api/v1/nodes?instanceId=${made[0]?.instanceId}`);
    expect(found.body.items).toHaveLength(1);
  });

  it('of another org are not there', async () => {
    const { nodeId } = await registered();
    const { key } = await server.makeKey('owner');
    expect((await server.call('GET', `/api/v1/nodes/${nodeId}`, { key })).status).toBe(404);
    expect((await server.call('DELETE', `/api/v1/nodes/${nodeId}`, { key })).status).toBe(404);
    expect((await server.call('GET', '/api/v1/nodes', { key })).body.items).toEqual([]);
  });

  it('are forgotten only when their machine is gone', async () => {
    const { nodeId, attemptId, key } = await registered();
    const refused = await server.call('DELETE', `/api/v1/nodes/${nodeId}`);
    expect({ status: refused.status, state: refused.body.state }).toEqual({ status: 409, state: 'bought' });
    await server.database.kysely.updateTable('attempts').set({ status: 'gone' }).where('id', '=', attemptId).execute();
    expect(await seen(nodeId)).toMatchObject({ status: 'gone', statusReason: 'its machine is gone at the provider' });
    expect((await server.call('DELETE', `/api/v1/nodes/${nodeId}`)).status).toBe(204);
    expect((await server.call('GET', `/api/v1/nodes/${nodeId}`)).status).toBe(404);
    expect((await asAgent('heartbeat', key, beat())).status).toBe(401);
  });
});

describe('what a machine downloads', () => {
  it('is public: the script with the checksum of the file', async () => {
    const script = await server.call<string>('GET', '/api/v1/nodes/install.sh', { key: null });
    expect(script.headers.get('content-type')).toMatch(/^text\/x-shellscript/);
    expect(script.body).toContain(`sha256=${SHA256}`);
    expect(script.body).not.toMatch(/@[A-Z]/);
    const file = await server.call<string>('GET', '/api/v1/nodes/agent.mjs', { key: null });
    expect(file.headers.get('x-muster-sha256')).toBe(SHA256);
    expect(createHash('sha256').update(file.body).digest('hex')).toBe(SHA256);
  });
});

describe('the metrics of an instance', () => {
  const metrics = (instanceId: string, query = '') =>
    server.call('GET', `/api/v1/instances/${instanceId}/metrics${query}`);

  it('are the samples of its node with the phases of the instance, and unknown is null', async () => {
    const { instanceId, nodeId, key } = await registered();
    await asAgent('heartbeat', key, beat({}, [{ ...GPU, powerW: null }]));
    const { status, body } = await metrics(instanceId);
    expect(status).toBe(200);
    expect(body).toMatchObject({
      instanceId,
      nodeId,
      nodeStatus: 'online',
      health: 'healthy',
      note: null,
      phaseAt: { queued: expect.any(String) },
      samples: [
        { verdict: 'healthy', gpuPercent: 3, gpuMemoryUsedMib: 512, gpuTemperatureC: 41, gpuPowerW: null, load1: 0.5 },
      ],
    });
  });

  it('reach back as far as is asked, oldest first, and a day at most', async () => {
    const { instanceId, nodeId, key } = await registered();
    await asAgent('heartbeat', key, beat());
    const { kysely } = server.database;
    const sample = await kysely
      .selectFrom('node_samples')
      .selectAll()
      .where('node_id', '=', nodeId)
      .executeTakeFirstOrThrow();
    const ago = (minutes: number) => new Date(Date.now() - minutes * 60_000);
    await kysely
      .insertInto('node_samples')
      .values(
        [30, 90, 1_500].map((minutes) => ({ ...sample, slot: (sample.slot + minutes) % 1_440, at: ago(minutes) })),
      )
      .execute();
    expect((await metrics(instanceId)).body.samples).toHaveLength(2);
    const day = (await metrics(instanceId, '?minutes=1440')).body.samples as { at: string }[];
    expect(day).toHaveLength(3);
    expect(day.map(({ at }) => at)).toEqual(day.map(({ at }) => at).toSorted());
    for (const wrong of ['0', '1441', 'x']) expect((await metrics(instanceId, `?minutes=${wrong}`)).status).toBe(422);
  });

  it('say why there are none: no machine, no agent, not registered', async () => {
    const bare = await recordMachine(server);
    expect((await metrics(bare.instanceId)).body).toMatchObject({
      nodeId: null,
      health: 'unknown',
      note: 'its machine carries no agent',
      samples: [],
    });
    const { kysely } = server.database;
    await kysely.updateTable('attempts').set({ agent_sealed: 'x' }).where('id', '=', bare.attemptId).execute();
    expect((await metrics(bare.instanceId)).body.note).toBe('its agent has not registered');
    await kysely.updateTable('attempts').set({ status: 'gone' }).where('id', '=', bare.attemptId).execute();
    expect((await metrics(bare.instanceId)).body.note).toBe('no machine of it is chosen');
  });

  it('of another org are not there', async () => {
    const { instanceId } = await registered();
    const { key } = await server.makeKey('owner');
    expect((await server.call('GET', `/api/v1/instances/${instanceId}/metrics`, { key })).status).toBe(404);
  });
});
