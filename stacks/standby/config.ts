/** The configuration of the `standby` stack: a CPU machine at Google that can take over, warm or stopped. Schema only. Prices are of us-central1. */
import { z } from 'zod';
import { parseCidr } from '../../domain/cidr.ts';
import { allowList, cidr } from '../config-fields.ts';

const zone = z.string().regex(/^[a-z]+-[a-z]+\d+-[a-z]$/, 'must be a zone such as "europe-west4-a"');

/** A stopped standby that a failover starts is stopped again after this long, so that a forgotten one stops billing. */
export const DEFAULT_MAX_RUN_HOURS = 168;
/** Google's own limit. */
const MAX_RUN_HOURS = 120 * 24;

export const standbyConfigSchema = z
  .strictObject({
    project: z
      .string()
      .regex(/^[a-z][a-z0-9-]{4,28}[a-z0-9]$/, 'must be a Google Cloud project id')
      .describe('Google Cloud project. No default.'),
    zone: zone.describe('Where it runs. No default.'),
    fallbackZone: zone
      .optional()
      .describe(
        'A second zone of the region for when the first has no capacity. Default none. With it the data disk is kept in both zones, at twice its price.',
      ),
    runIn: z
      .enum(['zone', 'fallback_zone'])
      .default('zone')
      .describe(
        'Which of the two it is in now. Default zone. Changing it makes the machine anew on the same data disk.',
      ),
    state: z
      .enum(['warm', 'stopped'])
      .default('stopped')
      .describe(
        'warm runs and bills; stopped bills only disks, and is not promised capacity when it starts. Default stopped.',
      ),
    machineType: z
      .string()
      .regex(/^[a-z]\d[a-z]?d?-[a-z]+(-\d+)?(-[a-z0-9]+)?$/, 'must be a machine type such as "e2-standard-4"')
      .refine((type) => !/^(a\d|g\d)/.test(type), 'a standby is a CPU machine: GPU machine types begin with a or g')
      .default('e2-standard-4')
      .describe('Default e2-standard-4, $0.134 per hour while it runs. Changing it stops the machine for a minute.'),
    spot: z
      .boolean()
      .default(false)
      .describe(
        'Cheaper by 60 to 90 %, and may be stopped at any time with 30 seconds of warning. Default false. Changing it replaces the machine.',
      ),
    bootDiskGib: z.int().min(10).max(2000).default(20).describe('Balanced disk, $0.10 per GiB and month. Default 20.'),
    dataDiskGib: z
      .int()
      .min(10)
      .max(65_536)
      .default(100)
      .describe(
        'Balanced disk for what is kept in sync, $0.10 per GiB and month, twice that with a fallback zone. Default 100. It grows in place and never shrinks.',
      ),
    image: z
      .string()
      .regex(/^\S+$/, 'must be an image such as "debian-cloud/debian-13"')
      .default('debian-cloud/debian-13')
      .describe(
        'Of the boot disk. Default debian-cloud/debian-13. Free. Changing it replaces the machine, not its data disk.',
      ),
    subnetCidr: cidr.default('10.62.0.0/24').describe('The network to make for it. Default 10.62.0.0/24. Free.'),
    sshCidrs: allowList.describe(
      "Networks that may reach SSH. Default none: only through Google's identity-aware proxy. Free. Some also give it a public address, $0.004 per hour while it runs; without one it reaches out through a gateway, about $0.006 per hour and $0.045 per GB.",
    ),
    sshPublicKeys: z
      .array(z.string().regex(/^(ssh-|ecdsa-|sk-)\S+ \S+/, 'must be OpenSSH public keys'))
      .default([])
      .describe('Keys of the user muster. Default none: OS Login decides. Free.'),
    agent: z
      .boolean()
      .default(false)
      .describe(
        "Carry Muster's agent. Default false; only a standby that the control plane made for an instance (POST /standby) can have it. Free.",
      ),
    snapshotBucket: z
      .string()
      .regex(/^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$/, 'must be a bucket name')
      .optional()
      .describe('Bucket at Google that the machine may read and write. Default none: it may reach no storage. Free.'),
    maxRunHours: z
      .int()
      .min(1)
      .max(MAX_RUN_HOURS)
      .nullable()
      .optional()
      .describe(
        `Google itself stops the machine after so many hours of running. Default ${DEFAULT_MAX_RUN_HOURS} for a stopped standby, null (for ever) for a warm one. Free. Cannot be used together with stopAt.`,
      ),
    stopAt: z.iso
      .datetime({ offset: true })
      .optional()
      .describe('Google itself stops the machine at this time. Default none. Free.'),
  })
  .superRefine((config, context) => {
    const problem = (path: string[], message: string) => context.addIssue({ code: 'custom', path, message });
    const regionOf = (name: string) => name.replace(/-[a-z]$/, '');
    if (config.fallbackZone === config.zone) problem(['fallbackZone'], 'must be another zone than zone');
    else if (config.fallbackZone !== undefined && regionOf(config.fallbackZone) !== regionOf(config.zone))
      problem(['fallbackZone'], `must be in the region ${regionOf(config.zone)}: a disk cannot be in two regions`);
    if (config.runIn === 'fallback_zone' && config.fallbackZone === undefined)
      problem(['runIn'], 'fallback_zone needs fallbackZone');
    if (config.stopAt !== undefined && typeof config.maxRunHours === 'number')
      problem(['stopAt'], 'cannot be used together with maxRunHours');
    const subnet = parseCidr(config.subnetCidr);
    if (subnet && (subnet.prefix < 8 || subnet.prefix > 29)) problem(['subnetCidr'], 'must be a /8 to a /29');
  });

export type StandbyConfig = z.output<typeof standbyConfigSchema>;
