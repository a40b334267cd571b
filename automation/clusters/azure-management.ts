/**
 * What Azure's resource manager does with a managed cluster and no Pulumi resource has: starting and stopping the whole of it.
 * Source: https://learn.microsoft.com/rest/api/aks/managed-clusters/stop and /start (api-version 2025-10-01): 202 when it is taken, the cluster's
 * `provisioningState` says when it is done, `powerState.code` what it is.
 */
import type { ClusterPower } from '../../domain/clusters/cluster.ts';
import { ClusterTrouble } from './cluster-trouble.ts';

export interface ManagedCluster {
  /** null: Azure does not say. */
  power: ClusterPower | null;
  /** Succeeded, Failed, Canceled, or what is under way: Stopping, Starting, Updating, … */
  provisioningState: string;
}

export interface AzureManagement {
  /** null: there is no such cluster. Throws ClusterTrouble. */
  readCluster(armId: string): Promise<ManagedCluster | null>;
  /** Safe to repeat. `busy`: another operation is under way, in Azure's words. Throws ClusterTrouble. */
  switchPower(armId: string, to: ClusterPower): Promise<'taken' | { busy: string }>;
}

export interface AzureToken {
  token: string;
  expiresAt: Date;
}

export interface AzureManagementOptions {
  /** Without a slash at the end. @default Azure's public one */
  url?: string;
  /** For that address. Throws ClusterTrouble `no_token`. */
  token: () => Promise<AzureToken>;
  now: () => Date;
}

export const AZURE_MANAGEMENT_URL = 'https://management.azure.com';
const API_VERSION = '2025-10-01';
const TIMEOUT_MS = 30_000;
const RENEW_BEFORE_MS = 60_000;
/** Nothing else of Azure is touched with the id that a stack's output holds. */
const MANAGED_CLUSTER =
  /^\/subscriptions\/[\w-]+\/resourceGroups\/[\w.()-]+\/providers\/Microsoft\.ContainerService\/managedClusters\/[\w-]+$/i;

export function createAzureManagement(options: AzureManagementOptions): AzureManagement {
  const { url = AZURE_MANAGEMENT_URL, token, now } = options;
  let kept: AzureToken | null = null;

  async function call(method: 'GET' | 'POST', armId: string, action = ''): Promise<Reply> {
    if (!MANAGED_CLUSTER.test(armId)) throw new ClusterTrouble('no_kubernetes', 'what its stack says is no id of AKS');
    if (kept === null || kept.expiresAt.getTime() < now().getTime() + RENEW_BEFORE_MS) kept = await token();
    const reply = await fetch(`${url}${armId}${action}?api-version=${API_VERSION}`, {
      method,
      headers: { authorization: `Bearer ${kept.token}`, 'user-agent': 'muster' },
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }).catch((error: unknown) => {
      throw new ClusterTrouble('unreachable', "Azure's resource manager does not answer", error);
    });
    const body = (await reply.json().catch(() => ({}))) as Record<string, unknown>;
    const { code, message } = (body['error'] ?? {}) as { code?: unknown; message?: unknown };
    const words = [code, message].filter((word) => typeof word === 'string').join(': ');
    return { status: reply.status, body, words: words.slice(0, 500) };
  }

  return {
    async readCluster(armId) {
      const reply = await call('GET', armId);
      if (reply.status === 404) return null;
      if (reply.status !== 200) throw refusal(reply);
      const { provisioningState, powerState } = (reply.body['properties'] ?? {}) as Record<string, unknown>;
      const { code } = (powerState ?? {}) as { code?: unknown };
      return {
        power: code === 'Running' ? 'running' : code === 'Stopped' ? 'stopped' : null,
        provisioningState: typeof provisioningState === 'string' ? provisioningState : '',
      };
    },
    async switchPower(armId, to) {
      const reply = await call('POST', armId, to === 'stopped' ? '/stop' : '/start');
      if (reply.status === 409) return { busy: reply.words };
      if (reply.status >= 200 && reply.status < 300) return 'taken';
      throw refusal(reply);
    },
  };
}

interface Reply {
  status: number;
  body: Record<string, unknown>;
  words: string;
}

function refusal({ status, words }: Reply): ClusterTrouble {
  const said = `Azure answered ${status}${words === '' ? '' : ` (${words})`}`;
  if (status === 401) return new ClusterTrouble('unauthorized', said);
  if (status === 403) return new ClusterTrouble('forbidden', said);
  return new ClusterTrouble(status === 429 || status >= 500 ? 'unreachable' : 'no_kubernetes', said);
}
