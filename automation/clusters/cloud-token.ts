/**
 * Short-lived tokens for clusters, of the credentials that this process works with: at EKS a presigned request that names us to AWS' STS,
 * at AKS an access token of Microsoft Entra, in the sandbox one by the sandbox. What its IAM or RBAC lets us do is the cluster's.
 */
import { AZURE_MANAGEMENT_URL, type AzureManagementOptions } from './azure-management.ts';
import { ClusterTrouble } from './cluster-trouble.ts';
import { presign, type AwsCredentials } from './sigv4.ts';

export interface ClusterToken {
  token: string;
  expiresAt: Date;
}

export interface TokenRequest {
  cloud: 'eks' | 'aks';
  /** The cloud's name of the cluster. */
  cloudName: string | null;
  region: string | null;
}

export interface ClusterTokens {
  /** Throws ClusterTrouble `no_token` where there are no credentials or the cloud refuses them. */
  make(request: TokenRequest): Promise<ClusterToken>;
}

export interface AzureCredentials {
  tenantId: string;
  clientId: string;
  clientSecret: string;
  /** @default https://login.microsoftonline.com */
  loginUrl?: string;
}

export interface CloudCredentials {
  aws: AwsCredentials | null;
  azure: AzureCredentials | null;
  /** The sandbox's, for every cluster there; null outside it. */
  sandboxToken: string | null;
  /** Where the sandbox answers as Azure's resource manager. @default nowhere */
  sandboxAzureUrl?: string;
}

/** EKS takes a presigned request for 15 minutes after its date, whatever it says itself; aws-iam-authenticator says one less. */
const EKS_TOKEN_MS = 14 * 60_000;
const EKS_PREFIX = 'k8s-aws-v1.';
const CLUSTER_HEADER = 'x-k8s-aws-id';
/** As `aws eks get-token` signs it. */
const EKS_URL_S = 60;
/** The application of every AKS cluster with Microsoft Entra (AKS AAD Server). */
const AKS_SERVER_APP = '6dae42f8-4368-4678-94ff-3960e28e3630';
const LOGIN_URL = 'https://login.microsoftonline.com';
const LOGIN_TIMEOUT_MS = 15_000;
const SANDBOX_TOKEN_MS = 15 * 60_000;

export function createClusterTokens(credentials: CloudCredentials, now: () => Date): ClusterTokens {
  return {
    async make(request) {
      const { aws, azure, sandboxToken } = credentials;
      if (sandboxToken !== null)
        return { token: sandboxToken, expiresAt: new Date(now().getTime() + SANDBOX_TOKEN_MS) };
      if (request.cloud === 'eks') {
        if (aws === null) throw noCredentials('AWS', 'AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY');
        return makeEksToken(aws, request, now());
      }
      if (azure === null) throw noCredentials('Azure', 'ARM_TENANT_ID, ARM_CLIENT_ID and ARM_CLIENT_SECRET');
      return fetchEntraToken(azure, AKS_SERVER_APP, now);
    },
  };
}

/** Azure's resource manager, with the credentials of the clusters' own tokens. */
export function azureAccess(credentials: CloudCredentials, now: () => Date): AzureManagementOptions {
  const { azure, sandboxToken, sandboxAzureUrl } = credentials;
  if (sandboxToken !== null) {
    const expiresAt = () => new Date(now().getTime() + SANDBOX_TOKEN_MS);
    const token = () => Promise.resolve({ token: sandboxToken, expiresAt: expiresAt() });
    // In the sandbox nothing of the real Azure is ever asked.
    return { url: sandboxAzureUrl ?? 'http://127.0.0.1:9', token, now };
  }
  return {
    now,
    token: async () => {
      if (azure === null) throw noCredentials('Azure', 'ARM_TENANT_ID, ARM_CLIENT_ID and ARM_CLIENT_SECRET');
      return fetchEntraToken(azure, AZURE_MANAGEMENT_URL, now);
    },
  };
}

function noCredentials(cloud: string, variables: string): ClusterTrouble {
  return new ClusterTrouble('no_token', `there are no credentials for ${cloud}: set ${variables}`);
}

export function makeEksToken(credentials: AwsCredentials, request: TokenRequest, at: Date): ClusterToken {
  const { cloudName, region } = request;
  if (cloudName === null || region === null)
    throw new ClusterTrouble('no_token', 'its name or region at AWS is not known yet');
  const domain = region.startsWith('cn-') ? 'amazonaws.com.cn' : 'amazonaws.com';
  const url = presign({
    method: 'GET',
    url: new URL(`https://sts.${region}.${domain}/?Action=GetCallerIdentity&Version=2011-06-15`),
    headers: { [CLUSTER_HEADER]: cloudName },
    region,
    service: 'sts',
    credentials,
    at,
    expiresInS: EKS_URL_S,
  });
  return {
    token: `${EKS_PREFIX}${Buffer.from(url.href).toString('base64url')}`,
    expiresAt: new Date(at.getTime() + EKS_TOKEN_MS),
  };
}

/** @param application whom the token is for */
async function fetchEntraToken(
  credentials: AzureCredentials,
  application: string,
  now: () => Date,
): Promise<ClusterToken> {
  const { tenantId, clientId, clientSecret, loginUrl = LOGIN_URL } = credentials;
  const startedAt = now().getTime();
  const reply = await fetch(`${loginUrl}/${encodeURIComponent(tenantId)}/oauth2/v2.0/token`, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'client_credentials',
      client_id: clientId,
      client_secret: clientSecret,
      scope: `${application}/.default`,
    }),
    redirect: 'error',
    signal: AbortSignal.timeout(LOGIN_TIMEOUT_MS),
  }).catch((error: unknown) => {
    throw new ClusterTrouble('no_token', 'Microsoft Entra does not answer', error);
  });
  const body = (await reply.json().catch(() => ({}))) as Record<string, unknown>;
  const { access_token: token, expires_in: lifeS } = body;
  if (!reply.ok || typeof token !== 'string' || typeof lifeS !== 'number') {
    // Its `error` is a word of OAuth; its description may repeat what was sent.
    const word = typeof body['error'] === 'string' && /^[a-z_]{1,40}$/.test(body['error']) ? `: ${body['error']}` : '';
    throw new ClusterTrouble('no_token', `Microsoft Entra gave no token (status ${reply.status}${word})`);
  }
  return { token, expiresAt: new Date(startedAt + lifeS * 1000) };
}
