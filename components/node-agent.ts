/**
 * Muster's agent on each GPU node of a Kubernetes cluster. It may do nothing at the Kubernetes API: it reads the node's GPUs and
 * reports to the control plane. Give it a Kubernetes provider in its options.
 */
import { CustomResource } from '@pulumi/kubernetes/apiextensions/customResource.js';
import { DaemonSet } from '@pulumi/kubernetes/apps/v1/daemonSet.js';
import { Namespace } from '@pulumi/kubernetes/core/v1/namespace.js';
import { Secret } from '@pulumi/kubernetes/core/v1/secret.js';
import { ServiceAccount } from '@pulumi/kubernetes/core/v1/serviceAccount.js';
import { secret, type Input, type Output } from '@pulumi/pulumi/output.js';
import { ComponentResource, type ComponentResourceOptions, type Resource } from '@pulumi/pulumi/resource.js';
import { AGENT_AUDIENCE, AGENT_SERVICE_ACCOUNT, DEFAULT_AGENT_NAMESPACE } from '../domain/clusters/enrolment.ts';
import { formatLabels, type StackTags } from '../domain/stack-tags.ts';

/** Nothing here costs money itself; an agent takes about 0.05 vCPU and 128 MiB of its node. */
export interface NodeAgentArgs {
  tags: StackTags;
  /** Container image with the agent and Node. */
  image: string;
  /** Where agents report: scheme, host, port, path prefix. */
  controlPlaneUrl: string;
  /**
   * The cluster's, with which they join (`POST /clusters/:id/enrolment`; a control plane that runs the stack brings its own); kept as a
   * Kubernetes Secret. Which node each is on they prove by a service account token that the cluster reviews. @default none: each node's
   * key is put in place by hand
   */
  enrolmentToken?: Input<string>;
  /** @default muster */
  namespace?: string;
  /** Which nodes get it. @default those that NVIDIA's feature discovery labels nvidia.com/gpu.present */
  nodeSelector?: Record<string, string>;
  /** Runtime class that shows GPUs to containers. @default the node's default runtime */
  runtimeClass?: string;
  /** Make the security context that OpenShift asks for instead of a Pod security label. @default false */
  openshift?: boolean;
}

/** The agent's key outlives its Pod. */
const STATE_DIRECTORY = '/var/lib/muster-agent';
const TOKEN_DIRECTORY = '/var/run/muster-agent';
const APP = AGENT_SERVICE_ACCOUNT;

export class NodeAgent extends ComponentResource {
  declare readonly namespace: Output<string>;

  constructor(name: string, args: NodeAgentArgs, options?: ComponentResourceOptions) {
    super('muster:kubernetes:NodeAgent', name, {}, options);
    const labels = { ...formatLabels(args.tags, name), 'app.kubernetes.io/name': APP };
    const namespace = this.#makeNamespace(name, args, labels);
    const place = { namespace: namespace.metadata.name, labels };
    const account = new ServiceAccount(
      `${name}-account`,
      { metadata: { ...place, name: APP }, automountServiceAccountToken: false },
      { parent: this },
    );
    const token = args.enrolmentToken === undefined ? null : this.#makeToken(name, args.enrolmentToken, place);
    const permission = args.openshift
      ? [this.#makeSecurityContext(name, args.namespace ?? DEFAULT_AGENT_NAMESPACE, labels)]
      : [];
    const secretName = token?.metadata.name ?? null;
    new DaemonSet(
      name,
      { metadata: { ...place, name: APP }, spec: daemonSpec(args, labels, account.metadata.name, secretName) },
      { parent: this, dependsOn: permission },
    );
    this.namespace = namespace.metadata.name;
    this.registerOutputs({ namespace: this.namespace });
  }

  #makeNamespace(name: string, args: NodeAgentArgs, labels: Record<string, string>): Namespace {
    // A host path is what it needs beyond the baseline.
    const security: Record<string, string> = args.openshift
      ? {}
      : { 'pod-security.kubernetes.io/enforce': 'privileged' };
    return new Namespace(
      `${name}-namespace`,
      { metadata: { name: args.namespace ?? DEFAULT_AGENT_NAMESPACE, labels: { ...labels, ...security } } },
      { parent: this },
    );
  }

  #makeToken(name: string, token: Input<string>, place: Place): Secret {
    return new Secret(
      `${name}-token`,
      { metadata: { ...place, name: `${APP}-token` }, stringData: { token: secret(token) } },
      { parent: this },
    );
  }

  /** What the agent's Pod asks for and not more: root for its one directory, no capability, no privilege. */
  #makeSecurityContext(name: string, namespace: string, labels: Record<string, string>): Resource {
    return new CustomResource(
      `${name}-scc`,
      {
        apiVersion: 'security.openshift.io/v1',
        kind: 'SecurityContextConstraints',
        metadata: { name: APP, labels },
        allowHostDirVolumePlugin: true,
        allowHostIPC: false,
        allowHostNetwork: false,
        allowHostPID: false,
        allowHostPorts: false,
        allowPrivilegeEscalation: false,
        allowPrivilegedContainer: false,
        fsGroup: { type: 'RunAsAny' },
        readOnlyRootFilesystem: true,
        requiredDropCapabilities: ['ALL'],
        runAsUser: { type: 'RunAsAny' },
        // The directory on the host carries another type than containers may write.
        seLinuxContext: { type: 'RunAsAny' },
        seccompProfiles: ['runtime/default'],
        supplementalGroups: { type: 'RunAsAny' },
        users: [`system:serviceaccount:${namespace}:${APP}`],
        volumes: ['hostPath', 'projected'],
      },
      { parent: this },
    );
  }
}

interface Place {
  namespace: Input<string>;
  labels: Record<string, string>;
}

function agentContainer(args: NodeAgentArgs, hasTokens: boolean) {
  // Files, because the kubelet replaces both while a Pod runs.
  const tokens = [
    { name: 'MUSTER_AGENT_TOKEN_FILE', value: `${TOKEN_DIRECTORY}/token` },
    { name: 'MUSTER_AGENT_KUBERNETES_TOKEN_FILE', value: `${TOKEN_DIRECTORY}/kubernetes-token` },
  ];
  const mount = { name: 'tokens', mountPath: TOKEN_DIRECTORY, readOnly: true };
  return {
    name: 'agent',
    image: args.image,
    env: [
      { name: 'MUSTER_AGENT_URL', value: args.controlPlaneUrl },
      { name: 'MUSTER_AGENT_DIR', value: STATE_DIRECTORY },
      // Sees every GPU of the node without taking any from the workloads.
      { name: 'NVIDIA_VISIBLE_DEVICES', value: 'all' },
      { name: 'NVIDIA_DRIVER_CAPABILITIES', value: 'utility' },
      ...(hasTokens ? tokens : []),
    ],
    resources: { requests: { cpu: '50m', memory: '128Mi' }, limits: { memory: '256Mi' } },
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      readOnlyRootFilesystem: true,
      runAsUser: 0,
      seccompProfile: { type: 'RuntimeDefault' },
    },
    volumeMounts: [{ name: 'state', mountPath: STATE_DIRECTORY }, ...(hasTokens ? [mount] : [])],
  };
}

/** The service account token is good for nothing at the Kubernetes API: it is made out for us. */
function tokenVolume(secretName: Input<string>) {
  return {
    name: 'tokens',
    projected: {
      sources: [
        { secret: { name: secretName, items: [{ key: 'token', path: 'token' }] } },
        { serviceAccountToken: { audience: AGENT_AUDIENCE, expirationSeconds: 600, path: 'kubernetes-token' } },
      ],
    },
  };
}

function daemonSpec(
  args: NodeAgentArgs,
  labels: Record<string, string>,
  serviceAccountName: Input<string>,
  secretName: Input<string> | null,
) {
  const state = { name: 'state', hostPath: { path: STATE_DIRECTORY, type: 'DirectoryOrCreate' } };
  return {
    selector: { matchLabels: { 'app.kubernetes.io/name': APP } },
    updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '10%' } },
    template: {
      metadata: { labels },
      spec: {
        serviceAccountName,
        automountServiceAccountToken: false,
        nodeSelector: args.nodeSelector ?? { 'nvidia.com/gpu.present': 'true' },
        priorityClassName: 'system-node-critical',
        ...(args.runtimeClass === undefined ? {} : { runtimeClassName: args.runtimeClass }),
        // A node that is tainted is still one to watch.
        tolerations: [{ operator: 'Exists' }],
        containers: [agentContainer(args, secretName !== null)],
        volumes: [state, ...(secretName === null ? [] : [tokenVolume(secretName)])],
      },
    },
  };
}
