/**
 * NVIDIA's GPU operator on a Kubernetes cluster: device plugin, feature discovery, DCGM metrics, and the driver where the node image
 * has none. Give it a Kubernetes provider in its options.
 */
import { Namespace } from '@pulumi/kubernetes/core/v1/namespace.js';
import { Release } from '@pulumi/kubernetes/helm/v3/release.js';
import type { Output } from '@pulumi/pulumi/output.js';
import { ComponentResource, type ComponentResourceOptions } from '@pulumi/pulumi/resource.js';
import { formatLabels, type StackTags } from '../domain/stack-tags.ts';
import { GPU_TAINT_KEY } from './gpu-nodes.ts';

/** Nothing here costs money itself; the operator takes about half a vCPU on a system node. */
export interface GpuOperatorArgs {
  tags: StackTags;
  /** @default gpu-operator */
  namespace?: string;
  /** Version of the chart. @default v25.10.1 */
  version?: string;
  /** Where the chart is. @default NVIDIA's repository */
  repository?: string;
  /** Install the driver: for node images that have none. @default false */
  driver?: boolean;
  /** Install the container toolkit: for node images that have none. @default false */
  toolkit?: boolean;
  /** How MIG slices are shown. @default none */
  mig?: 'none' | 'single' | 'mixed';
  /** Security contexts of OpenShift instead of Pod security labels; its own feature discovery operator is used. @default false */
  openshift?: boolean;
}

export const GPU_OPERATOR_VERSION = 'v25.10.1';

export class GpuOperator extends ComponentResource {
  declare readonly namespace: Output<string>;
  declare readonly version: Output<string | undefined>;

  constructor(name: string, args: GpuOperatorArgs, options?: ComponentResourceOptions) {
    super('muster:kubernetes:GpuOperator', name, {}, options);
    const isOpenshift = args.openshift ?? false;
    const namespace = new Namespace(
      `${name}-namespace`,
      { metadata: { name: args.namespace ?? 'gpu-operator', labels: namespaceLabels(args.tags, name, isOpenshift) } },
      { parent: this },
    );
    const release = new Release(
      name,
      {
        name: 'gpu-operator',
        namespace: namespace.metadata.name,
        chart: 'gpu-operator',
        version: args.version ?? GPU_OPERATOR_VERSION,
        repositoryOpts: { repo: args.repository ?? 'https://helm.ngc.nvidia.com/nvidia' },
        // A failed installation is taken back, so that the next try starts clean.
        atomic: true,
        timeout: 900,
        values: chartValues(args),
      },
      { parent: this },
    );
    this.namespace = namespace.metadata.name;
    this.version = release.version;
    this.registerOutputs({ namespace: this.namespace, version: this.version });
  }
}

function chartValues(args: GpuOperatorArgs): Record<string, unknown> {
  return {
    daemonsets: { tolerations: [{ key: GPU_TAINT_KEY, operator: 'Exists', effect: 'NoSchedule' }] },
    dcgmExporter: { enabled: true },
    driver: { enabled: args.driver ?? false },
    mig: { strategy: args.mig ?? 'none' },
    nfd: { enabled: !args.openshift },
    platform: { openshift: args.openshift ?? false },
    toolkit: { enabled: args.toolkit ?? false },
  };
}

/** Its Pods reach devices and the host's file system. OpenShift decides by the security contexts that the operator itself makes. */
function namespaceLabels(tags: StackTags, name: string, isOpenshift: boolean): Record<string, string> {
  const own = formatLabels(tags, name);
  return isOpenshift
    ? { ...own, 'openshift.io/cluster-monitoring': 'true' }
    : { ...own, 'pod-security.kubernetes.io/enforce': 'privileged' };
}
