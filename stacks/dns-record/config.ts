/** The configuration of the `dns-record` stack: a name in a zone of Route 53 that leads to an address. Schema only. */
import { z } from 'zod';

const LABEL = '(?!-)[a-z0-9_-]{1,63}(?<!-)';
const dnsName = z
  .string()
  .max(253)
  .regex(new RegExp(`^${LABEL}(\\.${LABEL})+$`), 'must be a full name in lower case, such as "train.example.com"');

export const dnsRecordConfigSchema = z.strictObject({
  zoneId: z
    .string()
    .regex(/^Z[A-Z0-9]{1,31}$/, 'must be the id of a hosted zone, such as "Z0123456789ABCDEFGHIJ"')
    .describe('Hosted zone at Route 53 in which the name lies. No default. $0.50 per month, which it costs already.'),
  hostname: dnsName.describe('Full name, without a dot at its end. No default. Free. Another one is another record.'),
  ttl: z
    .int()
    .min(1)
    .max(86_400)
    .default(60)
    .describe('Seconds for which others keep the answer: so long may an old one be believed. Default 60. Free.'),
  address: z
    .union([z.ipv4(), z.ipv6(), dnsName])
    .nullable()
    .default(null)
    .describe('Where it leads: an IP address, or another name. Default null: the name is not there at all. Free.'),
  port: z
    .int()
    .min(1)
    .max(65_535)
    .nullable()
    .default(null)
    .describe('Of SSH there: told by a record _ssh._tcp.<name>. Default null: none. Free.'),
});

export type DnsRecordConfig = z.output<typeof dnsRecordConfigSchema>;
