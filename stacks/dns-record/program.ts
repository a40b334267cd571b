/** The `dns-record` stack: one name that leads to where something is now. Credentials are those of the environment. */
import { Provider } from '@pulumi/aws/provider.js';
import { output, type Output } from '@pulumi/pulumi/output.js';
import { DnsRecord } from '../../components/dns-record.ts';
import { withPolicies } from '../policy-gate.ts';
import type { StackArgs } from '../stack-args.ts';
import type { DnsRecordConfig } from './config.ts';

/** Route 53 is one for the world, and is reached there. */
const REGION = 'us-east-1';

export function dnsRecordProgram(args: StackArgs<DnsRecordConfig>): Record<string, Output<unknown>> {
  const { config, name, ceilingMicroUsdPerHour } = args;
  return withPolicies({ ceilingMicroUsdPerHour, region: REGION }, (options) => {
    const provider = new Provider(`${name}-aws`, { region: REGION }, options);
    new DnsRecord(name, config, { ...options, provider });
    return { hostname: output(config.hostname), address: output(config.address) };
  });
}
