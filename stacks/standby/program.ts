/** The `standby` stack: one machine at Google that can take over. Credentials are those of the environment. */
import { Provider } from '@pulumi/gcp/provider.js';
import type { Output } from '@pulumi/pulumi/output.js';
import { GcpStandby } from '../../components/gcp-standby.ts';
import { formatLabels } from '../../domain/stack-tags.ts';
import { withPolicies } from '../policy-gate.ts';
import type { StackArgs } from '../stack-args.ts';
import type { StandbyConfig } from './config.ts';

export function standbyProgram(args: StackArgs<StandbyConfig>): Record<string, Output<unknown>> {
  const { config, name, tags, protect, ceilingMicroUsdPerHour } = args;
  const { agent: _, ...others } = config;
  const { project, zone } = config;
  const region = zone.replace(/-[a-z]$/, '');
  return withPolicies({ ceilingMicroUsdPerHour, region }, (options) => {
    const provider = new Provider(
      `${name}-gcp`,
      { project, region, zone, defaultLabels: formatLabels(tags, name), addPulumiAttributionLabel: false },
      options,
    );
    const made = new GcpStandby(name, { ...others, tags, protect, ...agentOf(args) }, { ...options, provider });
    const { instanceName, instanceId, status, privateAddress, publicAddress, serviceAccountEmail, dataDisk } = made;
    return {
      instanceName,
      instanceId,
      zone: made.zone,
      status,
      privateAddress,
      publicAddress,
      serviceAccountEmail,
      dataDisk,
    };
  });
}

/** Under plain `pulumi up` there is nobody to report to. */
function agentOf({ config, controlPlaneUrl = null }: StackArgs<StandbyConfig>) {
  return config.agent && controlPlaneUrl !== null ? { agent: { controlPlaneUrl } } : {};
}
