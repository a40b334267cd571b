/** The `onprem-node` stack: one machine of our own. The key to it is the control plane's, or the environment's. */
import type { Output } from '@pulumi/pulumi/output.js';
import { OnPremHost } from '../../components/onprem-host.ts';
import { withPolicies } from '../policy-gate.ts';
import type { StackArgs } from '../stack-args.ts';
import type { OnpremNodeConfig } from './config.ts';

export function onpremNodeProgram(args: StackArgs<OnpremNodeConfig>): Record<string, Output<unknown>> {
  const { config, name, tags, ceilingMicroUsdPerHour } = args;
  return withPolicies({ ceilingMicroUsdPerHour, region: null }, (options) => {
    const { nodePath, ...access } = config;
    const host = new OnPremHost(name, { ...access, ...(nodePath === undefined ? {} : { nodePath }), tags }, options);
    const { address, agentState, nodeId, facts } = host;
    return { address, agentState, nodeId, facts };
  });
}
