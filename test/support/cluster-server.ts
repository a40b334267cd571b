/** An API with a worker behind it, and simulated clusters that it may register: for tests of clusters. No engine runs. */
import { pino } from 'pino';
import { createKubernetesReader } from '../../automation/clusters/kubernetes-reader.ts';
import type { StepServices } from '../../automation/operations/step.ts';
import { createWorker } from '../../automation/operations/worker.ts';
import { noCrash } from '../../domain/crash-points.ts';
import {
  makeCluster,
  startKubernetesApi,
  type KubernetesApi,
  type SimulatedCluster,
} from '../../sandbox/kubernetes-api/server.ts';
import { createLabelMac, makeLabelKey } from '../../secrets/deployment-secrets.ts';
import { startApiServer, type ApiServer } from './api-server.ts';
import { createScriptedStackRunner, type ScriptedStackRunner } from './scripted-stack-runner.ts';

export interface ClusterServer extends ApiServer {
  kubernetes: KubernetesApi;
  runner: ScriptedStackRunner;
  services: StepServices;
  /** A simulated cluster of that name. */
  simulate(name: string, change?: Partial<SimulatedCluster>): SimulatedCluster;
}

const CLUSTER_TIMEOUT_MS = 1_500;

export async function startClusterServer(): Promise<ClusterServer> {
  const [server, kubernetes] = await Promise.all([startApiServer(), startKubernetesApi()]);
  const runner = createScriptedStackRunner(server.database.kysely);
  const services: StepServices = {
    db: server.database.kysely,
    queue: server.queue,
    runner,
    engineReady: () => true,
    client: () => {
      throw new Error('no vendor is asked');
    },
    enabledProviders: [],
    limiter: { acquire: () => Promise.resolve(), slowDown: () => Promise.resolve() },
    envelope: server.deps.envelope,
    kubernetes: createKubernetesReader(CLUSTER_TIMEOUT_MS),
    agentUrl: null,
    labelMac: createLabelMac(makeLabelKey().secret),
    deploymentId: 'sandbox',
    deploymentSshPublicKey: 'ssh-ed25519 AAAA',
    deploymentSshPrivateKey: '',
    bootTimeoutMs: 1,
    listLagMs: () => 0,
    now: () => new Date(),
    crashPoint: noCrash,
    log: pino({ level: 'silent' }),
  };
  const worker = createWorker({ services, database: server.database, owner: 'worker-1', concurrency: 4 });
  await worker.start();
  return {
    ...server,
    kubernetes,
    runner,
    services,
    simulate(name, change) {
      const cluster = makeCluster(change);
      kubernetes.clusters.set(name, cluster);
      return cluster;
    },
    async stop() {
      await worker.drain();
      await server.stop();
      await kubernetes.stop();
    },
  };
}
