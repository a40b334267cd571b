/**
 * A name at Route 53 that leads to an address: of the type that the address needs, with the port of SSH beside it. Without an address it is
 * not there at all: one that leads to where somebody else may be by now is worse than none.
 */
import { isIP } from 'node:net';
import { Record as Route53Record } from '@pulumi/aws/route53/record.js';
import { ComponentResource, type ComponentResourceOptions } from '@pulumi/pulumi/resource.js';

/** Free; queries are paid by use. */
export interface DnsRecordArgs {
  /** Of the hosted zone. */
  zoneId: string;
  /** Full name, without a dot at its end. */
  hostname: string;
  /** Seconds. @default 60 (free) */
  ttl?: number;
  /** An IP address or a name. @default null: the name is not there */
  address?: string | null;
  /** Of SSH. @default null: not told */
  port?: number | null;
}

const TYPES = { 0: 'CNAME', 4: 'A', 6: 'AAAA' } as const;

export class DnsRecord extends ComponentResource {
  constructor(name: string, args: DnsRecordArgs, options?: ComponentResourceOptions) {
    super('muster:aws:DnsRecord', name, {}, options);
    const { ttl = 60, address = null, port = null } = args;
    if (address !== null) this.#lead(name, { ...args, ttl, address, port });
    this.registerOutputs({});
  }

  #lead(name: string, { zoneId, hostname, ttl, address, port }: Required<DnsRecordArgs> & { address: string }): void {
    const type = TYPES[isIP(address) as 0 | 4 | 6];
    // A name has one kind of address at a time: the old one goes before the new one comes.
    const own = { parent: this, deleteBeforeReplace: true };
    new Route53Record(name, { zoneId, name: hostname, type, ttl, records: [address] }, own);
    if (port !== null) {
      const records = [`0 0 ${port} ${hostname}.`];
      new Route53Record(`${name}-ssh`, { zoneId, name: `_ssh._tcp.${hostname}`, type: 'SRV', ttl, records }, own);
    }
  }
}
