/**
 * AWS' Signature Version 4 in the query string (a presigned URL), with node:crypto.
 * Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html; held against AWS' own examples by the tests.
 */
import { createHash, createHmac } from 'node:crypto';

export interface AwsCredentials {
  accessKeyId: string;
  secretAccessKey: string;
  /** Of temporary credentials. */
  sessionToken: string | null;
}

export interface PresignRequest {
  method: 'GET';
  url: URL;
  /** Signed too; whoever uses the URL must send them as they are. `host` is always among them. */
  headers?: Record<string, string>;
  region: string;
  service: string;
  credentials: AwsCredentials;
  at: Date;
  expiresInS: number;
  /** Of the body, in hex, or UNSIGNED-PAYLOAD. @default of no body */
  payloadHash?: string;
}

const ALGORITHM = 'AWS4-HMAC-SHA256';

export function presign(request: PresignRequest): URL {
  const { url, region, service, credentials, at, expiresInS } = request;
  const time = at.toISOString().replace(/[-:]|\.\d{3}/g, '');
  const scope = `${time.slice(0, 8)}/${region}/${service}/aws4_request`;
  const headers = canonicalHeaders({ host: url.host, ...request.headers });
  const signedHeaders = headers.map(([name]) => name).join(';');
  const query: [string, string][] = [
    ...url.searchParams.entries(),
    ['X-Amz-Algorithm', ALGORITHM],
    ['X-Amz-Credential', `${credentials.accessKeyId}/${scope}`],
    ['X-Amz-Date', time],
    ['X-Amz-Expires', String(expiresInS)],
    ...(credentials.sessionToken === null
      ? []
      : [['X-Amz-Security-Token', credentials.sessionToken] satisfies [string, string]]),
    ['X-Amz-SignedHeaders', signedHeaders],
  ];
  const canonicalQuery = query
    .map(([name, value]) => [encode(name), encode(value)] as const)
    .sort(([a, x], [b, y]) => (a < b || (a === b && x < y) ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join('&');
  const canonical = [
    request.method,
    url.pathname,
    canonicalQuery,
    ...headers.map(([name, value]) => `${name}:${value}`),
    '',
    signedHeaders,
    request.payloadHash ?? sha256(''),
  ].join('\n');
  const text = [ALGORITHM, time, scope, sha256(canonical)].join('\n');
  const key = [time.slice(0, 8), region, service, 'aws4_request'].reduce<string | Buffer>(
    (secret, part) => createHmac('sha256', secret).update(part).digest(),
    `AWS4${credentials.secretAccessKey}`,
  );
  const signature = createHmac('sha256', key).update(text).digest('hex');
  return new URL(`${url.origin}${url.pathname}?${canonicalQuery}&X-Amz-Signature=${signature}`);
}

function canonicalHeaders(headers: Record<string, string>): [string, string][] {
  return Object.entries(headers)
    .map(([name, value]) => [name.toLowerCase(), value.trim().replace(/ +/g, ' ')] satisfies [string, string])
    .sort(([a], [b]) => (a < b ? -1 : 1));
}

/** RFC 3986: encodeURIComponent leaves a few that AWS wants encoded. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

function sha256(text: string): string {
  return createHash('sha256').update(text, 'utf8').digest('hex');
}
