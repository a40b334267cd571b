/** All routes: what app.ts mounts, openapi.ts documents and the surface test walks over. */
import type { Route } from '../route.ts';
import { agentCallRoutes } from './agent-calls.ts';
import { apiKeyRoutes } from './api-keys.ts';
import { authRoutes } from './auth.ts';
import { clusterPowerRoutes } from './cluster-power.ts';
import { clusterRoutes } from './clusters.ts';
import { costRoutes } from './costs.ts';
import { credentialRoutes } from './credentials.ts';
import { drillRoutes } from './drills.ts';
import { endpointNameRoutes } from './endpoint-names.ts';
import { failoverRoutes } from './failovers.ts';
import { findingRoutes } from './findings.ts';
import { fleetRoutes } from './fleet.ts';
import { healthRoutes } from './health.ts';
import { hibernationRoutes } from './hibernation.ts';
import { hostRoutes } from './hosts.ts';
import { instanceMetricRoutes } from './instance-metrics.ts';
import { instanceRoutes } from './instances.ts';
import { inventoryRoutes } from './inventory.ts';
import { machineRoutes } from './machines.ts';
import { nodeRoutes } from './nodes.ts';
import { operationRoutes } from './operations.ts';
import { orgRoutes } from './orgs.ts';
import { podRoutes } from './pods.ts';
import { poolRoutes } from './pools.ts';
import { repositoryRoutes } from './repositories.ts';
import { priceRoutes } from './prices.ts';
import { sessionRoutes } from './sessions.ts';
import { stackHistoryRoutes } from './stack-history.ts';
import { stackPendingRoutes } from './stack-pending.ts';
import { snapshotRoutes } from './snapshots.ts';
import { stackRoutes } from './stacks.ts';
import { standbyRoutes } from './standbys.ts';
import { webhookRoutes } from './webhooks.ts';
import { sourcingRoutes } from './sourcing.ts';
import { spotRoutes } from './spot.ts';

export const ALL_ROUTES: readonly Route[] = [
  ...healthRoutes,
  ...authRoutes,
  ...orgRoutes,
  ...apiKeyRoutes,
  ...inventoryRoutes,
  ...machineRoutes,
  ...priceRoutes,
  ...spotRoutes,
  ...sourcingRoutes,
  ...instanceRoutes,
  ...hibernationRoutes,
  ...instanceMetricRoutes,
  ...poolRoutes,
  ...sessionRoutes,
  ...nodeRoutes,
  ...agentCallRoutes,
  ...hostRoutes,
  ...podRoutes,
  ...repositoryRoutes,
  ...snapshotRoutes,
  ...credentialRoutes,
  ...operationRoutes,
  ...stackRoutes,
  ...stackHistoryRoutes,
  ...stackPendingRoutes,
  ...clusterRoutes,
  ...clusterPowerRoutes,
  ...failoverRoutes,
  ...endpointNameRoutes,
  ...drillRoutes,
  // After those whose paths begin with /standby/ and a word.
  ...standbyRoutes,
  ...costRoutes,
  ...fleetRoutes,
  ...webhookRoutes,
  ...findingRoutes,
];
