/** What the API server says of each kind: which fields never change, what it refuses and what it fills in. */
import { CloudError } from '../cloud-error.ts';
import type { ResourceRules } from '../cloud-rules.ts';
import { hashHex, newUuid } from '../names.ts';
import { isSame, listOf, objectOf, textOf, type Properties } from '../properties.ts';

export const RELEASE = 'kubernetes:helm.sh/v3:Release';
const NAMESPACE = 'kubernetes:core/v1:Namespace';

export const KIND_RULES: Record<string, ResourceRules> = {
  [NAMESPACE]: kind({
    seconds: { create: [0, 1], delete: [5, 15] },
    outputs: () => ({ spec: { finalizers: ['kubernetes'] }, status: { phase: 'Active' } }),
    afterDelete(namespace, { scene, remove }) {
      for (const object of scene.find('*')) {
        if (
          object.package === 'kubernetes' &&
          object.scope === namespace.scope &&
          object.id.startsWith(`${namespace.id}/`)
        )
          remove(object);
      }
    },
  }),
  'kubernetes:apps/v1:Deployment': kind({
    replaceOn: ['spec.selector'],
    seconds: { create: [5, 30], update: [5, 30], delete: [2, 8] },
    outputs: (inputs) => {
      const replicas = objectOf(inputs.spec).replicas ?? 1;
      return {
        status: {
          observedGeneration: 1,
          replicas,
          readyReplicas: replicas,
          availableReplicas: replicas,
          updatedReplicas: replicas,
        },
      };
    },
    refuseCreate: requireMatchingLabels,
  }),
  'kubernetes:apps/v1:DaemonSet': kind({
    replaceOn: ['spec.selector'],
    seconds: { create: [5, 30], update: [5, 30], delete: [2, 8] },
    outputs: () => ({
      status: {
        observedGeneration: 1,
        currentNumberScheduled: 0,
        desiredNumberScheduled: 0,
        numberReady: 0,
        numberMisscheduled: 0,
      },
    }),
    refuseCreate: requireMatchingLabels,
  }),
  'kubernetes:apps/v1:StatefulSet': kind({
    replaceOn: ['spec.selector', 'spec.serviceName', 'spec.volumeClaimTemplates', 'spec.podManagementPolicy'],
    seconds: { create: [5, 30], update: [5, 30], delete: [2, 8] },
    refuseCreate: requireMatchingLabels,
  }),
  'kubernetes:batch/v1:Job': kind({
    replaceOn: ['spec.template', 'spec.selector', 'spec.completions'],
    seconds: { create: [5, 30] },
  }),
  'kubernetes:core/v1:ConfigMap': kind({}),
  'kubernetes:core/v1:PersistentVolumeClaim': kind({
    replaceOn: ['spec.accessModes', 'spec.storageClassName', 'spec.volumeName', 'spec.volumeMode', 'spec.selector'],
    outputs: () => ({ status: { phase: 'Pending' } }),
  }),
  'kubernetes:core/v1:Secret': kind({
    replaceOn: ['type'],
    outputs: (inputs) => {
      const encoded = Object.entries(objectOf(inputs.stringData)).map(([key, value]) => [
        key,
        Buffer.from(String(value)).toString('base64'),
      ]);
      return { type: 'Opaque', ...(encoded.length > 0 ? { data: Object.fromEntries(encoded) } : {}) };
    },
  }),
  'kubernetes:core/v1:Service': kind({
    replaceOn: ['spec.clusterIP', 'spec.ipFamilies'],
    outputs: (_inputs, { id, scene }) => ({
      spec: {
        clusterIP: serviceAddress(`${scene.scope} ${id}`),
        clusterIPs: [serviceAddress(`${scene.scope} ${id}`)],
        type: 'ClusterIP',
        sessionAffinity: 'None',
      },
      status: { loadBalancer: {} },
    }),
  }),
  'kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding': kind({ replaceOn: ['roleRef'], isDeletedFirst: true }),
  'kubernetes:rbac.authorization.k8s.io/v1:RoleBinding': kind({ replaceOn: ['roleRef'], isDeletedFirst: true }),
  'kubernetes:storage.k8s.io/v1:StorageClass': kind({
    replaceOn: ['provisioner', 'parameters', 'reclaimPolicy', 'volumeBindingMode'],
    outputs: () => ({ reclaimPolicy: 'Delete', volumeBindingMode: 'Immediate' }),
  }),
  'kubernetes:scheduling.k8s.io/v1:PriorityClass': kind({
    replaceOn: ['value', 'preemptionPolicy'],
    outputs: () => ({ preemptionPolicy: 'PreemptLowerPriority' }),
    refuseCreate({ value }) {
      if (typeof value === 'number' && value > 1_000_000_000) {
        throw new CloudError('Forbidden', 'maximum allowed value of a user defined priority is 1000000000');
      }
    },
  }),
  'kubernetes:node.k8s.io/v1:RuntimeClass': kind({ replaceOn: ['handler'] }),
  [RELEASE]: {
    replaceOn: ['name', 'namespace'],
    seconds: { create: [20, 90], update: [20, 60], delete: [10, 30] },
    status: {
      property: 'status.status',
      creating: 'pending-install',
      ready: 'deployed',
      updating: 'pending-upgrade',
      deleting: 'uninstalling',
      failed: 'failed',
    },
    outputs: (inputs, { before }) => ({
      status: {
        name: inputs.name,
        namespace: inputs.namespace,
        chart: textOf(inputs.chart)?.split('/').at(-1),
        version: textOf(inputs.version) ?? '1.0.0',
        appVersion: textOf(inputs.version) ?? '1.0.0',
        revision: Number(objectOf(before?.outputs.status).revision ?? 0) + 1,
      },
      resourceNames: {},
    }),
    changingOutputs: () => ['status'],
  },
};

/** Every object has what the API server adds to its metadata, and a name that it accepts. */
function kind(rules: ResourceRules): ResourceRules {
  return {
    ...rules,
    outputs: (inputs, at) => ({
      ...rules.outputs?.(inputs, at),
      metadata: {
        uid: textOf(objectOf(at.before?.outputs.metadata).uid) ?? newUuid(),
        creationTimestamp:
          textOf(objectOf(at.before?.outputs.metadata).creationTimestamp) ?? new Date(at.scene.now()).toISOString(),
        generation: Number(objectOf(at.before?.outputs.metadata).generation ?? 0) + 1,
        resourceVersion: String(at.scene.now() % 1_000_000_000),
      },
    }),
    refuseCreate(inputs, scene) {
      const name = String(objectOf(inputs.metadata).name);
      if (!/^[a-z0-9]([-a-z0-9.:]*[a-z0-9])?$/.test(name)) {
        throw new CloudError(
          'Invalid',
          `${String(inputs.kind)} "${name}" is invalid: metadata.name: Invalid value: "${name}": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'`,
        );
      }
      rules.refuseCreate?.(inputs, scene);
    },
  };
}

/** Kinds without rules of their own are still objects. */
export const PLAIN_OBJECT = kind({});

function requireMatchingLabels(inputs: Properties): void {
  const spec = objectOf(inputs.spec);
  const wanted = objectOf(objectOf(spec.selector).matchLabels);
  const labels = objectOf(objectOf(objectOf(spec.template).metadata).labels);
  const isMatching = Object.entries(wanted).every(([key, value]) => isSame(labels[key], value));
  const name = String(objectOf(inputs.metadata).name);
  if (!isMatching) {
    throw new CloudError(
      'Invalid',
      `${String(inputs.kind)}.apps "${name}" is invalid: spec.template.metadata.labels: Invalid value: \`selector\` does not match template \`labels\``,
    );
  }
  const containers = listOf(objectOf(objectOf(spec.template).spec).containers).map(objectOf);
  if (containers.length === 0) {
    throw new CloudError(
      'Invalid',
      `${String(inputs.kind)}.apps "${name}" is invalid: spec.template.spec.containers: Required value`,
    );
  }
}

function serviceAddress(name: string): string {
  const mark = hashHex(name, 4);
  return `172.20.${Number.parseInt(mark.slice(0, 2), 16)}.${Number.parseInt(mark.slice(2), 16)}`;
}
