/** A host of an org by our records whose agent is played by the test: it says what it has and what its pods do, and asks what it shall do. */
import { randomBytes } from 'node:crypto';
import type { DesiredPod, PodReport } from '../../api/contract/pods.ts';
import type { DesiredReply } from '../../api/contract/nodes.ts';
import { hashCredential } from '../../api/credential.ts';
import type { ApiServer, Loose, Reply } from './api-server.ts';
import { SSH_KEY } from './ssh-machine.ts';

export interface PodNode {
  id: string;
  agentKey: string;
  /** A heartbeat with these pods. */
  beat(pods?: Partial<PodReport>[]): Promise<void>;
  /** POST to an agent's route. */
  say(path: string, body: unknown): Promise<Reply<Loose>>;
  desired(): Promise<DesiredReply & { pods: DesiredPod[] }>;
  /** What is desired is done: it runs, is stopped or is removed. */
  obey(): Promise<void>;
}

export interface NodeMakeUp {
  gpus?: number;
  memoryMib?: number;
  labels?: Record<string, string>;
  engine?: { name: string; version: string | null; problem: string | null } | null;
}

let serial = 0;

/** @param key of an operator of the org that has it */
export async function addPodNode(server: ApiServer, key: string, makeUp: NodeMakeUp = {}): Promise<PodNode> {
  const { gpus = 0, memoryMib = 65_536, labels = {}, engine = ENGINE } = makeUp;
  const credential = `key-${randomBytes(4).toString('hex')}`;
  await server.call('POST', '/api/v1/credentials', {
    key,
    body: { name: credential, kind: 'ssh_private_key', value: SSH_KEY.private },
  });
  const added = await server.call('POST', '/api/v1/nodes', {
    key,
    body: {
      address: `10.1.${++serial >> 8}.${serial & 255}`,
      hostKeySha256: HOST_KEY,
      credentialRef: credential,
      labels,
    },
  });
  const id = added.body.node.id as string;
  const agentKey = `ma_${randomBytes(16).toString('hex')}`;
  await server.database.kysely
    .updateTable('nodes')
    .set({ key_hash: hashCredential(agentKey), agent_version: '1' })
    .where('id', '=', id)
    .execute();
  let sequence = 0;
  const say = (path: string, body: unknown) =>
    server.call('POST', `/api/v1/nodes/${path}`, { key: null, headers: { 'x-agent-api-key': agentKey }, body });
  const node: PodNode = {
    id,
    agentKey,
    say,
    async beat(pods = []) {
      const reply = await say('heartbeat', {
        bootId: 'boot-one',
        sequence: ++sequence,
        agentVersion: '1',
        system: { ...NOTHING, memoryTotalMib: memoryMib, cpuCount: 8 },
        gpu: reading(gpus),
        ...(engine === null ? {} : { pods: { engine, items: pods.map(fill) } }),
      });
      if (reply.status !== 200) throw new Error(JSON.stringify(reply.body));
    },
    async desired() {
      const reply = await server.call('GET', '/api/v1/nodes/desired', {
        key: null,
        headers: { 'x-agent-api-key': agentKey },
      });
      if (reply.status !== 200) throw new Error(JSON.stringify(reply.body));
      return reply.body as DesiredReply & { pods: DesiredPod[] };
    },
    async obey() {
      const { pods } = await node.desired();
      await node.beat(
        pods.map(({ podId, run, state }) => ({
          podId,
          run,
          status: state,
          ...(state === 'running' ? { startedAt: NOW } : {}),
        })),
      );
    },
  };
  await node.beat();
  return node;
}

const NOW = '2026-11-21T12:00:00.000Z';
const HOST_KEY = `SHA256:${'A'.repeat(43)}`;
const ENGINE = { name: 'docker', version: '28.1.0', problem: null };
const NOTHING = {
  hostname: null,
  os: null,
  kernel: null,
  architecture: 'x64',
  cpuModel: null,
  load1: null,
  memoryAvailableMib: null,
  diskTotalMib: null,
  diskFreeMib: null,
  uptimeSeconds: null,
  agentRssMib: null,
};

function fill(report: Partial<PodReport>): PodReport {
  return {
    podId: '',
    run: 1,
    status: 'running',
    reason: null,
    health: null,
    pullPercent: null,
    restarts: 0,
    exitCode: null,
    ports: [],
    imageDigest: null,
    startedAt: null,
    finishedAt: null,
    ...report,
  };
}

function reading(gpus: number) {
  return {
    verdict: gpus === 0 ? 'unknown' : 'healthy',
    reason: null,
    readAt: NOW,
    driverVersion: null,
    gpus: Array.from({ length: gpus }, (_, index) => ({
      index,
      uuid: `GPU-${index}`,
      name: 'NVIDIA GeForce RTX 4090',
      busId: null,
      memoryTotalMib: 24_564,
      memoryUsedMib: 0,
      memoryFreeMib: null,
      utilizationPercent: 0,
      memoryUtilizationPercent: null,
      temperatureC: null,
      memoryTemperatureC: null,
      powerW: null,
      powerLimitW: null,
      pstate: null,
      eccUncorrected: null,
      migMode: null,
      migDevices: null,
      problem: null,
    })),
  };
}
