/** The network of a standby: one subnet, a firewall that lets in SSH from where it may come, and a way out. */
import { Firewall } from '@pulumi/gcp/compute/firewall.js';
import { Network } from '@pulumi/gcp/compute/network.js';
import { Router } from '@pulumi/gcp/compute/router.js';
import { RouterNat } from '@pulumi/gcp/compute/routerNat.js';
import { Subnetwork } from '@pulumi/gcp/compute/subnetwork.js';
import type { Output } from '@pulumi/pulumi/output.js';
import { ComponentResource, type ComponentResourceOptions, type Resource } from '@pulumi/pulumi/resource.js';

export interface GcpStandbyNetworkArgs {
  project: string;
  region: string;
  /** @default 10.62.0.0/24 (free) */
  cidr?: string;
  /** Who may reach SSH. @default only Google's identity-aware proxy (free) */
  sshCidrs?: string[];
  /** A gateway for a machine without an address of its own, about $0.006 per hour and $0.045 per GB. @default true */
  nat?: boolean;
}

/** From where Google's identity-aware proxy connects, for whoever IAM lets through it. */
const PROXY_CIDR = '35.235.240.0/20';

export class GcpStandbyNetwork extends ComponentResource {
  declare readonly subnetwork: Output<string>;
  /** The machine is of use only when these are there. */
  declare readonly waysOut: Resource[];

  constructor(name: string, args: GcpStandbyNetworkArgs, options?: ComponentResourceOptions) {
    super('muster:gcp:StandbyNetwork', name, {}, options);
    const { project, region, sshCidrs = [] } = args;
    const network = new Network(`${name}-network`, { name, project, autoCreateSubnetworks: false }, { parent: this });
    const subnetwork = new Subnetwork(
      `${name}-subnet`,
      {
        name,
        project,
        region,
        network: network.id,
        ipCidrRange: args.cidr ?? '10.62.0.0/24',
        privateIpGoogleAccess: true,
      },
      { parent: this },
    );
    new Firewall(
      `${name}-ssh`,
      {
        name: `${name}-ssh`,
        project,
        network: network.id,
        direction: 'INGRESS',
        allows: [{ protocol: 'tcp', ports: ['22'] }],
        sourceRanges: sshCidrs.length > 0 ? sshCidrs : [PROXY_CIDR],
        targetTags: [name],
      },
      { parent: this },
    );
    this.subnetwork = subnetwork.id;
    this.waysOut = args.nat === false ? [] : [this.#makeNat(name, project, region, network)];
    this.registerOutputs({ subnetwork: this.subnetwork });
  }

  #makeNat(name: string, project: string, region: string, network: Network): RouterNat {
    const router = new Router(`${name}-router`, { name, project, region, network: network.id }, { parent: this });
    return new RouterNat(
      `${name}-nat`,
      {
        name,
        project,
        region,
        router: router.name,
        natIpAllocateOption: 'AUTO_ONLY',
        sourceSubnetworkIpRangesToNat: 'ALL_SUBNETWORKS_ALL_IP_RANGES',
        logConfig: { enable: true, filter: 'ERRORS_ONLY' },
      },
      { parent: this },
    );
  }
}
