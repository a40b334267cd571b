/** Google's machines, disks and templates, with the life of a machine: PROVISIONING, STAGING, RUNNING, STOPPING, TERMINATED. */
import { addressIn, parseCidr } from '../cidr.ts';
import type { ResourceRules, Scene } from '../cloud-rules.ts';
import type { CloudResource } from '../cloud-store.ts';
import { newDigits } from '../names.ts';
import { isObject, listOf, objectOf, textOf, textsOf, type Properties } from '../properties.ts';
import type { InputChange } from '../resource-diff.ts';
import { gcpError } from './errors.ts';
import { externalAddress, isReference, requireName, requireNetwork } from './network.ts';
import { hasAccelerator, hasMachineType, isGpuMachine, isZone, regionOfZone } from './places.ts';

const INSTANCE = 'gcp:compute/instance:Instance';
const DISK = 'gcp:compute/disk:Disk';
const REGION_DISK = 'gcp:compute/regionDisk:RegionDisk';
const SUBNETWORK = 'gcp:compute/subnetwork:Subnetwork';
const ACCOUNT = 'gcp:serviceaccount/account:Account';

/** What of a disk never changes. */
const DISK_PARTS = ['type', 'image', 'snapshot', 'physicalBlockSizeBytes', 'description'];

/** What can only change while the machine is stopped. */
const STOPPED_ONLY = [
  'machineType',
  'minCpuPlatform',
  'serviceAccount',
  'enableDisplay',
  'shieldedInstanceConfig',
  'advancedMachineFeatures',
];

export const INSTANCE_RULES: Record<string, ResourceRules> = {
  [INSTANCE]: {
    nameInput: 'name',
    replaceOn: [
      'bootDisk.initializeParams',
      'bootDisk.source',
      'bootDisk.deviceName',
      'networkInterfaces.network',
      'networkInterfaces.subnetwork',
      'guestAccelerators',
      'hostname',
      'canIpForward',
      'scratchDisks',
      'metadataStartupScript',
      'scheduling.provisioningModel',
      'scheduling.preemptible',
      'confidentialInstanceConfig',
      'description',
    ],
    defaults: () => ({ canIpForward: false, deletionProtection: false }),
    status: {
      property: 'currentStatus',
      creating: 'PROVISIONING',
      ready: (inputs) => textOf(inputs.desiredStatus) ?? 'RUNNING',
      updating: '',
      deleting: 'STOPPING',
      failed: 'TERMINATED',
      starting: 'STAGING',
      stopping: 'STOPPING',
    },
    seconds: { create: [15, 60], update: [5, 20], delete: [30, 60], start: [15, 60], stop: [30, 50] },
    updateKind(instance, changes, news) {
      if (!changes.some(({ path }) => path === 'desiredStatus')) return 'update';
      const wanted = textOf(news.desiredStatus) ?? 'RUNNING';
      if (wanted === instance.outputs.currentStatus) return 'update';
      return wanted === 'RUNNING' ? 'start' : 'stop';
    },
    outputs: describeInstance,
    changingOutputs: (changes) => (changes.some(({ path }) => path === 'desiredStatus') ? ['currentStatus'] : []),
    complain(inputs) {
      const status = textOf(inputs.desiredStatus);
      if (status === undefined || ['RUNNING', 'SUSPENDED', 'TERMINATED'].includes(status)) return [];
      return [
        {
          property: 'desiredStatus',
          reason: `expected desired_status to be one of ["RUNNING" "SUSPENDED" "TERMINATED"], got ${status}`,
        },
      ];
    },
    refuseCreate: refuseInstance,
    refuseUpdate: refuseInstanceUpdate,
    refuseDelete({ id, inputs }) {
      if (inputs.deletionProtection === true) {
        throw gcpError(
          'Error deleting instance',
          400,
          'resourceInUseByAnotherResource',
          `Invalid resource usage: 'Resource cannot be deleted if it's protected against deletion: ${id}'.`,
        );
      }
    },
  },
  [DISK]: diskRules('Disk', (inputs) => requireZone(inputs, 'Error creating Disk')),
  // In two zones of a region at once.
  [REGION_DISK]: diskRules('RegionDisk', (inputs) => {
    const zones = textsOf(inputs.replicaZones);
    if (zones.length !== 2 || zones.some((zone) => regionOfZone(zone) !== inputs.region))
      throw gcpError('Error creating RegionDisk', 400, 'invalid', "Invalid value for field 'resource.replicaZones'");
  }),
  'gcp:compute/instanceTemplate:InstanceTemplate': {
    nameInput: 'name',
    isDeletedFirst: false,
    replaceOn: [
      'machineType',
      'disks',
      'networkInterfaces',
      'metadata',
      'metadataStartupScript',
      'scheduling',
      'serviceAccount',
      'labels',
      'tags',
      'guestAccelerators',
      'namePrefix',
      'description',
    ],
    refuseCreate: (inputs) => requireName(inputs, 'InstanceTemplate'),
  },
};

function diskRules(noun: 'Disk' | 'RegionDisk', refusePlace: (inputs: Properties) => unknown): ResourceRules {
  return {
    nameInput: 'name',
    replaceOn: noun === 'Disk' ? DISK_PARTS : [...DISK_PARTS, 'replicaZones'],
    seconds: { create: [5, 20], delete: [3, 8] },
    defaults: () => ({ type: 'pd-standard' }),
    outputs: (inputs, { before }) => ({
      size: inputs.size ?? before?.outputs.size ?? 10,
      physicalBlockSizeBytes: 4096,
      users: [],
      diskId: before?.outputs.diskId ?? newDigits(19),
    }),
    refuseCreate(inputs) {
      requireName(inputs, noun);
      refusePlace(inputs);
    },
    refuseUpdate(disk, news) {
      const before = Number(disk.inputs.size ?? disk.outputs.size);
      if (typeof news.size === 'number' && news.size < before) {
        throw gcpError(
          `Error resizing ${noun}`,
          400,
          'invalid',
          `Invalid value for field 'resource.sizeGb': '${news.size}'. New disk size must be larger than existing size ${before}.`,
        );
      }
    },
    refuseDelete(disk, scene) {
      const user = scene.find(INSTANCE).find(({ inputs }) => {
        const sources = [
          objectOf(inputs.bootDisk).source,
          ...listOf(inputs.attachedDisks).map((one) => objectOf(one).source),
        ];
        return sources.some((source) => isReference(source, disk));
      });
      if (user)
        throw gcpError(
          `Error deleting ${noun}`,
          400,
          'resourceInUseByAnotherResource',
          `The disk resource '${disk.id}' is already being used by '${user.id}'`,
        );
    },
  };
}

type Described = Parameters<NonNullable<ResourceRules['outputs']>>[1];

function describeInstance(inputs: Properties, { id, scene, before }: Described): Properties {
  const isRunning = (textOf(inputs.desiredStatus) ?? 'RUNNING') === 'RUNNING';
  const wasRunning = before?.outputs.currentStatus === 'RUNNING';
  // An ephemeral address is another one after each start.
  const starts = Number(before?.outputs.simulatedStarts ?? 0) + (isRunning && !wasRunning ? 1 : 0);
  const interfaces = listOf(inputs.networkInterfaces).map(objectOf);
  const scheduling = objectOf(inputs.scheduling);
  const isSpot = scheduling.provisioningModel === 'SPOT' || scheduling.preemptible === true;
  return {
    instanceId: before?.outputs.instanceId ?? newDigits(19),
    cpuPlatform: isRunning ? 'Intel Cascade Lake' : 'Unknown CPU Platform',
    creationTimestamp: before?.outputs.creationTimestamp ?? new Date(scene.now()).toISOString(),
    simulatedStarts: starts,
    guestAccelerators: [],
    scheduling: {
      automaticRestart: !isSpot,
      onHostMaintenance: isSpot ? 'TERMINATE' : 'MIGRATE',
      preemptible: isSpot,
      provisioningModel: isSpot ? 'SPOT' : 'STANDARD',
    },
    bootDisk: {
      autoDelete: true,
      deviceName: 'persistent-disk-0',
      mode: 'READ_WRITE',
      source: `${id.replace('/instances/', '/disks/')}`,
    },
    networkInterfaces: interfaces.map((one, index) => {
      const subnetwork = scene.find(SUBNETWORK).find((other) => isReference(one.subnetwork, other));
      const range = parseCidr(textOf(subnetwork?.inputs.ipCidrRange) ?? '10.128.0.0/20')!;
      const place = 2 + (Number.parseInt(id.length.toString(), 10) % 60) + index;
      const hasExternal = listOf(one.accessConfigs).length > 0;
      return {
        name: `nic${index}`,
        networkIp: addressIn(range, place),
        stackType: 'IPV4_ONLY',
        ...(hasExternal
          ? {
              accessConfigs: [
                { natIp: isRunning ? externalAddress(`${id} ${starts} ${index}`) : '', networkTier: 'PREMIUM' },
              ],
            }
          : {}),
      };
    }),
  };
}

function refuseInstance(inputs: Properties, scene: Scene): void {
  const what = 'Error creating instance';
  requireName(inputs, 'instance');
  const zone = requireZone(inputs, what);
  const type = machineTypeOf(inputs);
  if (!hasMachineType(type, zone)) {
    throw gcpError(
      what,
      400,
      'invalid',
      `Invalid value for field 'resource.machineType': 'zones/${zone}/machineTypes/${type}'. Machine type with name '${type}' does not exist in zone '${zone}'.`,
    );
  }
  const accelerators = listOf(inputs.guestAccelerators)
    .map(objectOf)
    .filter(({ count }) => count !== 0);
  for (const { type: accelerator } of accelerators) {
    const name = String(accelerator).split('/').at(-1)!;
    if (!hasAccelerator(name, zone)) {
      throw gcpError(
        what,
        404,
        'notFound',
        `The resource 'projects/${String(inputs.project)}/zones/${zone}/acceleratorTypes/${name}' was not found`,
      );
    }
  }
  refuseScheduling(inputs, accelerators.length > 0 || isGpuMachine(type), what);
  for (const one of listOf(inputs.networkInterfaces).map(objectOf)) {
    requireNetwork(one.network, scene, what);
    const subnetwork = textOf(one.subnetwork);
    if (subnetwork !== undefined && !scene.find(SUBNETWORK).some((other) => isReference(subnetwork, other))) {
      throw gcpError(what, 404, 'notFound', `The resource '${subnetwork}' was not found`);
    }
  }
  const email = textOf(objectOf(inputs.serviceAccount).email);
  if (
    email !== undefined &&
    !/^\d+-compute@developer|^default$/.test(email) &&
    !scene.find(ACCOUNT).some(({ outputs }) => outputs.email === email)
  ) {
    throw gcpError(what, 400, 'invalid', `The user does not have access to service account '${email}'.`);
  }
  const disks = listOf(inputs.attachedDisks).map((one) => objectOf(one).source);
  for (const source of disks) {
    const disk = [DISK, REGION_DISK].flatMap((type) => scene.find(type)).find((one) => isReference(source, one));
    if (!disk) throw gcpError(what, 404, 'notFound', `The resource '${String(source)}' was not found`);
    if (![disk.inputs.zone, ...textsOf(disk.inputs.replicaZones)].includes(zone))
      throw gcpError(what, 400, 'invalid', `The disk '${disk.id}' is not in zone '${zone}'.`);
  }
  for (const tag of textsOf(inputs.tags)) {
    if (!/^[a-z]([-a-z0-9]*[a-z0-9])?$/.test(tag))
      throw gcpError(what, 400, 'invalid', `Invalid value for field 'resource.tags.items': '${tag}'.`);
  }
}

/** Spot machines do not restart by themselves; machines with GPUs cannot migrate. */
function refuseScheduling(inputs: Properties, hasGpu: boolean, what: string): void {
  const scheduling = objectOf(inputs.scheduling);
  const isSpot = scheduling.provisioningModel === 'SPOT';
  const invalid = (message: string) =>
    gcpError(what, 400, 'invalid', `Invalid value for field 'resource.scheduling': ${message}`);
  if (isSpot && scheduling.preemptible !== true)
    throw invalid('Scheduling must have preemptible be true when provisioning model is SPOT.');
  if (scheduling.preemptible === true && scheduling.automaticRestart !== false)
    throw invalid('Scheduling must have preemptible be false when AutomaticRestart is true.');
  if (scheduling.preemptible === true && scheduling.onHostMaintenance === 'MIGRATE')
    throw invalid("Scheduling must have preemptible be false when OnHostMaintenance isn't TERMINATE.");
  if (hasGpu && scheduling.onHostMaintenance !== 'TERMINATE')
    throw invalid(
      'Instances with guest accelerators do not support live migration: onHostMaintenance must be TERMINATE.',
    );
}

function refuseInstanceUpdate(
  instance: CloudResource,
  news: Properties,
  changes: readonly InputChange[],
  scene: Scene,
): void {
  const { currentStatus } = instance.outputs;
  if (currentStatus === 'STOPPING' || currentStatus === 'SUSPENDING') {
    throw gcpError(
      'Error starting instance',
      400,
      'resourceNotReady',
      `The resource '${instance.id}' is not ready (RESOURCE_NOT_READY)`,
    );
  }
  const needsStop = changes.filter(({ path }) =>
    STOPPED_ONLY.some((one) => path === one || path.startsWith(`${one}.`)),
  );
  if (
    needsStop.length > 0 &&
    currentStatus === 'RUNNING' &&
    news.allowStoppingForUpdate !== true &&
    news.desiredStatus !== 'TERMINATED'
  ) {
    throw gcpError(
      'Error updating instance',
      400,
      'invalid',
      'Changing the machine_type, min_cpu_platform, service_account, enable_display, shielded_instance_config or network_interface.[#d].(network/subnetwork/subnetwork_project) on a started instance requires stopping it. To acknowledge this, please set allow_stopping_for_update = true in your config.',
    );
  }
  const type = machineTypeOf(news);
  const zone = String(instance.inputs.zone);
  if (!hasMachineType(type, zone)) {
    throw gcpError(
      'Error updating instance',
      400,
      'invalid',
      `Machine type with name '${type}' does not exist in zone '${zone}'.`,
    );
  }
  if (news.desiredStatus === 'SUSPENDED' && (isGpuMachine(type) || listOf(news.guestAccelerators).some(isObject))) {
    throw gcpError(
      'Error suspending instance',
      400,
      'unsupportedOperation',
      'Suspend is not supported for instances with accelerators attached.',
    );
  }
  const subnetworks = listOf(news.networkInterfaces).map((one) => textOf(objectOf(one).subnetwork));
  for (const subnetwork of subnetworks) {
    if (subnetwork !== undefined && !scene.find(SUBNETWORK).some((other) => isReference(subnetwork, other))) {
      throw gcpError('Error updating instance', 404, 'notFound', `The resource '${subnetwork}' was not found`);
    }
  }
}

function machineTypeOf({ machineType }: Properties): string {
  return String(machineType).split('/').at(-1)!;
}

function requireZone(inputs: Properties, what: string): string {
  const zone = String(inputs.zone);
  if (!isZone(zone)) throw gcpError(what, 400, 'invalid', `Invalid value for field 'zone': '${zone}'. Unknown zone.`);
  return zone;
}
