/**
 * A CPU machine at Google that can take over from a GPU machine: warm (running) or stopped. What it keeps in sync is on a disk of its
 * own that outlives it; with a fallback zone the disk is in both zones, and the machine can be made again in the other one when the
 * first has no capacity. Safe by default: no public address, SSH only through Google's proxy, a service account that may write logs and
 * metrics, and Google itself stops a standby that was started and forgotten.
 */
import { Disk } from '@pulumi/gcp/compute/disk.js';
import { Instance } from '@pulumi/gcp/compute/instance.js';
import { RegionDisk } from '@pulumi/gcp/compute/regionDisk.js';
import { IAMMember } from '@pulumi/gcp/projects/iammember.js';
import { Account } from '@pulumi/gcp/serviceaccount/account.js';
import { BucketIAMMember } from '@pulumi/gcp/storage/bucketIAMMember.js';
import { interpolate, secret, type Input, type Output } from '@pulumi/pulumi/output.js';
import { ComponentResource, type ComponentResourceOptions } from '@pulumi/pulumi/resource.js';
import { formatLabels, type StackTags } from '../domain/stack-tags.ts';
import { DATA_DEVICE, standbyStartScript } from '../domain/standby-start.ts';
import { StandbyAgent } from '../providers-dynamic/standby-agent/resource.ts';
import { GcpStandbyNetwork } from './gcp-standby-network.ts';

/** Prices are of us-central1. */
export interface GcpStandbyArgs {
  tags: StackTags;
  /** Google Cloud project. */
  project: string;
  zone: string;
  /** Another zone of the region, for when the first has no capacity: the data disk is then in both, at twice its price. @default none */
  fallbackZone?: string;
  /** Where the machine is now; changing it makes it anew on the same data disk. @default zone */
  runIn?: 'zone' | 'fallback_zone';
  /** warm runs and bills; stopped bills only disks, and is promised no capacity. @default stopped */
  state?: 'warm' | 'stopped';
  /** @default e2-standard-4: $0.134 per hour while it runs */
  machineType?: string;
  /** Cheaper by 60 to 90 %, may be stopped with 30 seconds of warning. @default false */
  spot?: boolean;
  /** Balanced disk, $0.10 per GiB and month. @default 20 */
  bootDiskGib?: number;
  /** Balanced disk, $0.10 per GiB and month and zone. @default 100 */
  dataDiskGib?: number;
  /** Of the boot disk. @default debian-cloud/debian-13 (free) */
  image?: string;
  /** @default 10.62.0.0/24 (free) */
  subnetCidr?: string;
  /** Networks that may reach SSH; the machine then has a public address, $0.004 per hour while it runs. @default only through Google's proxy */
  sshCidrs?: string[];
  /** Of the user muster. @default none: OS Login decides (free) */
  sshPublicKeys?: string[];
  /** Bucket at Google that the machine may read and write. @default none (free) */
  snapshotBucket?: string;
  /** Google stops the machine after so many hours of running; null: never. @default 168 for a stopped standby, null for a warm one (free) */
  maxRunHours?: number | null;
  /** Google stops the machine at this time (RFC 3339), instead of maxRunHours. @default none (free) */
  stopAt?: string;
  /** Carry our agent, which reports to this control plane. @default none (free) */
  agent?: { controlPlaneUrl: string };
  /** Refuse to delete the data disk, and keep it when it is replaced. @default true */
  protect?: boolean;
}

const DEFAULT_MAX_RUN_HOURS = 168;

export class GcpStandby extends ComponentResource {
  declare readonly instanceName: Output<string>;
  declare readonly instanceId: Output<string>;
  declare readonly zone: Output<string>;
  /** RUNNING, TERMINATED, …: what Google last said. */
  declare readonly status: Output<string>;
  declare readonly privateAddress: Output<string>;
  /** Empty without one; changes at each start. */
  declare readonly publicAddress: Output<string>;
  declare readonly serviceAccountEmail: Output<string>;
  declare readonly dataDisk: Output<string>;
  readonly #name: string;
  readonly #args: GcpStandbyArgs;
  readonly #labels: Record<string, string>;

  constructor(name: string, args: GcpStandbyArgs, options?: ComponentResourceOptions) {
    super('muster:gcp:Standby', name, {}, options);
    this.#name = name;
    this.#args = args;
    this.#labels = formatLabels(args.tags, name);
    const { project, subnetCidr: cidr, sshCidrs = [] } = args;
    const hasAddress = sshCidrs.length > 0;

    const network = new GcpStandbyNetwork(
      name,
      { project, region: regionOf(args.zone), cidr, sshCidrs, nat: !hasAddress },
      { parent: this },
    );
    const account = this.#makeServiceAccount();
    const disk = this.#makeDataDisk();
    const instance = this.#makeInstance(network, account, disk, hasAddress);

    this.instanceName = instance.name;
    this.instanceId = instance.instanceId;
    this.zone = instance.zone;
    this.status = instance.currentStatus;
    this.privateAddress = instance.networkInterfaces.apply((interfaces) => interfaces[0]?.networkIp ?? '');
    this.publicAddress = instance.networkInterfaces.apply(
      (interfaces) => interfaces[0]?.accessConfigs?.[0]?.natIp ?? '',
    );
    this.serviceAccountEmail = account.email;
    this.dataDisk = disk.name;
    this.registerOutputs({
      instanceName: this.instanceName,
      instanceId: this.instanceId,
      zone: this.zone,
      status: this.status,
      serviceAccountEmail: this.serviceAccountEmail,
      dataDisk: this.dataDisk,
    });
  }

  #makeServiceAccount(): Account {
    const { project, snapshotBucket } = this.#args;
    const account = new Account(
      `${this.#name}-account`,
      // Google wants at least six characters.
      {
        accountId: this.#name.length < 6 ? `${this.#name}-standby` : this.#name,
        displayName: `Standby ${this.#name}`,
        project,
      },
      { parent: this },
    );
    const member = interpolate`serviceAccount:${account.email}`;
    for (const role of ['logging.logWriter', 'monitoring.metricWriter']) {
      new IAMMember(
        `${this.#name}-${role.replace('.', '-')}`,
        { project, role: `roles/${role}`, member },
        { parent: this },
      );
    }
    if (snapshotBucket !== undefined) {
      new BucketIAMMember(
        `${this.#name}-snapshots`,
        { bucket: snapshotBucket, role: 'roles/storage.objectUser', member },
        { parent: this },
      );
    }
    return account;
  }

  #makeDataDisk(): Disk | RegionDisk {
    const { project, zone, fallbackZone, dataDiskGib = 100, protect = true } = this.#args;
    const name = `${this.#name}-data`;
    const shared = { name, project, size: dataDiskGib, type: 'pd-balanced', labels: this.#labels };
    const options = { parent: this, protect, retainOnDelete: protect };
    if (fallbackZone === undefined) return new Disk(name, { ...shared, zone }, options);
    return new RegionDisk(name, { ...shared, region: regionOf(zone), replicaZones: [zone, fallbackZone] }, options);
  }

  #makeInstance(network: GcpStandbyNetwork, account: Account, disk: Disk | RegionDisk, hasAddress: boolean): Instance {
    const args = this.#args;
    const isReplicated = args.fallbackZone !== undefined;
    return new Instance(
      this.#name,
      {
        name: this.#name,
        project: args.project,
        zone: (args.runIn === 'fallback_zone' ? args.fallbackZone : undefined) ?? args.zone,
        machineType: args.machineType ?? 'e2-standard-4',
        desiredStatus: args.state === 'warm' ? 'RUNNING' : 'TERMINATED',
        allowStoppingForUpdate: true,
        bootDisk: {
          autoDelete: true,
          initializeParams: {
            image: args.image ?? 'debian-cloud/debian-13',
            labels: this.#labels,
            size: args.bootDiskGib ?? 20,
            type: 'pd-balanced',
          },
        },
        // A zone that is down may never let go of its copy.
        attachedDisks: [
          {
            source: disk.id,
            deviceName: DATA_DEVICE,
            mode: 'READ_WRITE',
            ...(isReplicated ? { forceAttach: true } : {}),
          },
        ],
        networkInterfaces: [
          { subnetwork: network.subnetwork, ...(hasAddress ? { accessConfigs: [{ networkTier: 'PREMIUM' }] } : {}) },
        ],
        tags: [this.#name],
        // What it may do is said by its roles; scopes are Google's older way.
        serviceAccount: { email: account.email, scopes: ['https://www.googleapis.com/auth/cloud-platform'] },
        shieldedInstanceConfig: { enableIntegrityMonitoring: true, enableSecureBoot: true, enableVtpm: true },
        scheduling: scheduling(args),
        metadata: { ...metadata(args.sshPublicKeys ?? []), ...this.#startScript(disk) },
        labels: this.#labels,
      },
      // Its name and its disk are free for the next one only when it is gone. It holds nothing itself.
      { parent: this, dependsOn: network.waysOut, deleteBeforeReplace: true },
    );
  }

  /** In the metadata, where it can change without another machine. Whoever may read the machine's metadata sees a token that was used. */
  #startScript(disk: Disk | RegionDisk): Record<string, Input<string>> {
    const { agent } = this.#args;
    if (agent === undefined) return {};
    const { controlPlaneUrl } = agent;
    const join = new StandbyAgent(`${this.#name}-agent`, { disk: disk.id, controlPlaneUrl }, { parent: this });
    const script = join.token.apply((token) => standbyStartScript({ url: controlPlaneUrl, token }));
    return { 'startup-script': secret(script) };
  }
}

function scheduling(args: GcpStandbyArgs) {
  const isSpot = args.spot ?? false;
  const maxRunHours =
    args.maxRunHours === undefined && args.state !== 'warm' ? DEFAULT_MAX_RUN_HOURS : args.maxRunHours;
  const guard = args.stopAt !== undefined ? { terminationTime: args.stopAt } : runDuration(maxRunHours ?? null);
  const isBounded = isSpot || Object.keys(guard).length > 0;
  return {
    provisioningModel: isSpot ? 'SPOT' : 'STANDARD',
    preemptible: isSpot,
    automaticRestart: !isSpot,
    onHostMaintenance: isSpot ? 'TERMINATE' : 'MIGRATE',
    ...(isBounded ? { instanceTerminationAction: 'STOP' } : {}),
    ...guard,
  };
}

function runDuration(hours: number | null) {
  return hours === null ? {} : { maxRunDuration: { seconds: hours * 3600 } };
}

function metadata(sshPublicKeys: string[]): Record<string, string> {
  const shared = { 'block-project-ssh-keys': 'TRUE', 'serial-port-enable': 'FALSE' };
  if (sshPublicKeys.length === 0) return { ...shared, 'enable-oslogin': 'TRUE' };
  return { ...shared, 'enable-oslogin': 'FALSE', 'ssh-keys': sshPublicKeys.map((key) => `muster:${key}`).join('\n') };
}

function regionOf(zone: string): string {
  return zone.replace(/-[a-z]$/, '');
}
