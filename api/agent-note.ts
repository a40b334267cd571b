/** What a dry run says where the deployment's agents are off: what is made will work, and less will be known of it. */
import { isMadeClusterKind } from '../domain/clusters/change.ts';
import type { ApiContext } from './api-deps.ts';

const WHY = 'agents are off in this deployment (MUSTER_AGENT, MUSTER_PUBLIC_URL)';

/** @param what of instances: `instance`; of stacks: their kind */
export function agentNotes({ agents }: Pick<ApiContext, 'agents'>, what: string): string[] {
  if (agents.isOn !== false) return [];
  if (what === 'instance')
    return [
      `${WHY}: machines send no heartbeats and no GPU metrics, and their usage is proven by the vendors' lists alone`,
    ];
  if (isMadeClusterKind(what))
    return [
      `${WHY}: of its nodes is known only what Kubernetes tells, no GPU metrics, and nodeAgent finds nobody to report to`,
    ];
  if (what === 'onprem-node') return [`${WHY}: its host gets none, and nothing is known of it after the installation`];
  return [];
}
