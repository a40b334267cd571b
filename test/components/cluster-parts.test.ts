import { beforeEach, describe, expect, it } from 'vitest';
import { GPU_OPERATOR_VERSION, GpuOperator } from '../../components/gpu-operator.ts';
import { NodeAgent, type NodeAgentArgs } from '../../components/node-agent.ts';
import { isRpcSecret } from '@pulumi/pulumi/runtime/rpc.js';
import { mockEngine, type MockEngine } from '../support/mock-engine.ts';

const TAGS = { owner: 'platform', deployment: 'sandbox', costCentre: 'cc-1' };
const RELEASE = 'kubernetes:helm.sh/v3:Release';
const NAMESPACE = 'kubernetes:core/v1:Namespace';
const DAEMON_SET = 'kubernetes:apps/v1:DaemonSet';
const SCC = 'kubernetes:security.openshift.io/v1:SecurityContextConstraints';

let engine: MockEngine;
beforeEach(async () => {
  engine = await mockEngine();
});

describe('the GPU operator', () => {
  it('is pinned, taken back when it fails, and leaves the driver to the node image', async () => {
    new GpuOperator('op', { tags: TAGS });
    await engine.settle();
    expect(engine.find(RELEASE)).toMatchObject({
      chart: 'gpu-operator',
      version: GPU_OPERATOR_VERSION,
      atomic: true,
      values: {
        driver: { enabled: false },
        toolkit: { enabled: false },
        nfd: { enabled: true },
        mig: { strategy: 'none' },
      },
    });
    expect(engine.find(NAMESPACE).metadata.labels).toMatchObject({
      'pod-security.kubernetes.io/enforce': 'privileged',
      'muster-owner': 'platform',
    });
  });

  it('installs driver and toolkit, shows MIG slices, and takes another version from elsewhere when asked', async () => {
    const wanted = {
      driver: true,
      toolkit: true,
      mig: 'single',
      version: 'v1.2.3',
      repository: 'https://charts.example',
    } as const;
    new GpuOperator('op', { tags: TAGS, ...wanted, namespace: 'gpus' });
    await engine.settle();
    expect(engine.find(RELEASE)).toMatchObject({
      version: 'v1.2.3',
      namespace: 'gpus',
      repositoryOpts: { repo: 'https://charts.example' },
      values: { driver: { enabled: true }, toolkit: { enabled: true }, mig: { strategy: 'single' } },
    });
  });

  it('uses the security contexts and the feature discovery of OpenShift there', async () => {
    new GpuOperator('op', { tags: TAGS, openshift: true });
    await engine.settle();
    expect(engine.find(RELEASE).values).toMatchObject({ platform: { openshift: true }, nfd: { enabled: false } });
    expect(engine.find(NAMESPACE).metadata.labels).not.toHaveProperty('pod-security.kubernetes.io/enforce');
  });
});

describe('the node agent', () => {
  const make = async (args: Partial<NodeAgentArgs> = {}) => {
    new NodeAgent('agent', { tags: TAGS, image: 'muster/agent:1', controlPlaneUrl: 'https://muster.example', ...args });
    await engine.settle();
    return engine.find(DAEMON_SET).spec.template.spec;
  };

  it('runs on GPU nodes whatever their taints, without rights at the Kubernetes API and without capabilities', async () => {
    const pod = await make();
    expect(pod).toMatchObject({
      nodeSelector: { 'nvidia.com/gpu.present': 'true' },
      tolerations: [{ operator: 'Exists' }],
      automountServiceAccountToken: false,
    });
    const [agent] = pod.containers;
    expect(agent.securityContext).toMatchObject({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    expect(agent.env).toContainEqual({ name: 'MUSTER_AGENT_URL', value: 'https://muster.example' });
    expect(engine.registered.filter(({ type }) => /rbac|Secret:|SecurityContext/.test(type))).toEqual([]);
  });

  it('joins with a token that stands in a Kubernetes Secret and nowhere else', async () => {
    const pod = await make({ enrolmentToken: 'a-secret-token' });
    const held = engine.list('kubernetes:core/v1:Secret')[0]?.inputs;
    expect(isRpcSecret(held.stringData) || isRpcSecret(held.stringData.token)).toBe(true);
    expect(pod.containers[0].env).toContainEqual({
      name: 'MUSTER_AGENT_TOKEN_FILE',
      value: '/var/run/muster-agent/token',
    });
    const volume = pod.volumes.find(({ name }: { name: string }) => name === 'tokens');
    expect(volume.projected.sources).toEqual([
      { secret: { name: 'muster-agent-token', items: [{ key: 'token', path: 'token' }] } },
      { serviceAccountToken: { audience: 'muster', expirationSeconds: 600, path: 'kubernetes-token' } },
    ]);
    expect(JSON.stringify(engine.find(DAEMON_SET))).not.toContain('a-secret-token');
  });

  it('asks OpenShift for one host directory as root, and for no privilege', async () => {
    await make({ openshift: true, namespace: 'fleet' });
    expect(engine.find(SCC)).toMatchObject({
      allowPrivilegedContainer: false,
      allowHostDirVolumePlugin: true,
      requiredDropCapabilities: ['ALL'],
      users: ['system:serviceaccount:fleet:muster-agent'],
      volumes: ['hostPath', 'projected'],
    });
    expect(engine.find(NAMESPACE).metadata.labels).not.toHaveProperty('pod-security.kubernetes.io/enforce');
  });

  it('goes to other nodes and under a runtime class when asked', async () => {
    expect(await make({ nodeSelector: { a: 'b' }, runtimeClass: 'nvidia' })).toMatchObject({
      nodeSelector: { a: 'b' },
      runtimeClassName: 'nvidia',
    });
  });
});
