import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { createClusterTokens, makeEksToken } from '../../../automation/clusters/cloud-token.ts';
import { presign, type AwsCredentials } from '../../../automation/clusters/sigv4.ts';

/** Of AWS' published examples; they open nothing. */
const S3_EXAMPLE: AwsCredentials = {
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
  sessionToken: null,
};
const SUITE: AwsCredentials = {
  accessKeyId: 'AKIDEXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
  sessionToken: null,
};

describe("AWS' Signature Version 4 in a URL", () => {
  // https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
  it("is what AWS' documented example says", () => {
    const url = presign({
      method: 'GET',
      url: new URL('https://examplebucket.s3.amazonaws.com/test.txt'),
      region: 'us-east-1',
      service: 's3',
      credentials: S3_EXAMPLE,
      at: new Date('2013-05-24T00:00:00Z'),
      expiresInS: 86_400,
      payloadHash: 'UNSIGNED-PAYLOAD',
    });
    expect(url.searchParams.get('X-Amz-Signature')).toBe(
      'aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404',
    );
    expect(url.searchParams.get('X-Amz-Credential')).toBe('AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request');
  });

  const inSuite = {
    method: 'GET',
    url: new URL('https://example.amazonaws.com/'),
    region: 'us-east-1',
    service: 'service',
    credentials: SUITE,
    at: new Date('2015-08-30T12:36:00Z'),
    expiresInS: 3600,
  } as const;

  it('depends on everything that is signed, and on nothing else', () => {
    const signature = (change: object) => presign({ ...inSuite, ...change }).searchParams.get('X-Amz-Signature');
    const one = signature({});
    expect(signature({})).toBe(one);
    for (const change of [
      { region: 'eu-west-1' },
      { service: 'sts' },
      { at: new Date('2015-08-30T12:36:01Z') },
      { expiresInS: 60 },
      { headers: { 'x-k8s-aws-id': 'train' } },
      { url: new URL('https://example.amazonaws.com/?a=b') },
      { credentials: { ...SUITE, sessionToken: 'token' } },
    ])
      expect(signature(change)).not.toBe(one);
    expect(signature({ headers: { 'X-B': ' b  c ', 'x-a': 'a' } })).toBe(
      signature({ headers: { 'x-a': 'a', 'x-b': 'b c' } }),
    );
  });

  it('sorts and escapes the query as AWS does', () => {
    const url = presign({ ...inSuite, url: new URL("https://example.amazonaws.com/?z=1&a=it's%20(one)*") });
    expect(url.search).toMatch(/^\?X-Amz-Algorithm=.*&a=it%27s%20%28one%29%2A&z=1&X-Amz-Signature=[0-9a-f]{64}$/);
  });
});

describe('a token for EKS', () => {
  const at = new Date('2026-11-21T09:00:00Z');
  const request = { cloud: 'eks', cloudName: 'train-eu', region: 'eu-west-1' } as const;

  it('is the presigned question who we are, for that cluster only', () => {
    const { token, expiresAt } = makeEksToken({ ...SUITE, sessionToken: 'session/token==' }, request, at);
    expect(token).toMatch(/^k8s-aws-v1\.[A-Za-z0-9_-]+$/);
    expect(expiresAt).toEqual(new Date('2026-11-21T09:14:00Z'));
    const url = new URL(Buffer.from(token.slice('k8s-aws-v1.'.length), 'base64url').toString());
    expect(url.origin + url.pathname).toBe('https://sts.eu-west-1.amazonaws.com/');
    expect(Object.fromEntries(url.searchParams)).toMatchObject({
      Action: 'GetCallerIdentity',
      Version: '2011-06-15',
      'X-Amz-Date': '20261121T090000Z',
      'X-Amz-Expires': '60',
      'X-Amz-Security-Token': 'session/token==',
      'X-Amz-SignedHeaders': 'host;x-k8s-aws-id',
    });
    expect(token).not.toContain(SUITE.secretAccessKey);
    expect(makeEksToken(SUITE, { ...request, cloudName: 'other' }, at).token).not.toBe(
      makeEksToken(SUITE, request, at).token,
    );
  });

  it('is asked of the STS of China there', () => {
    const { token } = makeEksToken(SUITE, { ...request, region: 'cn-north-1' }, at);
    expect(Buffer.from(token.slice(11), 'base64url').toString()).toMatch(
      /^https:\/\/sts\.cn-north-1\.amazonaws\.com\.cn\//,
    );
  });

  it('needs credentials, and says which', async () => {
    const tokens = createClusterTokens({ aws: null, azure: null, sandboxToken: null }, () => at);
    await expect(tokens.make(request)).rejects.toMatchObject({ kind: 'no_token', message: /AWS_ACCESS_KEY_ID/ });
    await expect(tokens.make({ ...request, cloud: 'aks' })).rejects.toMatchObject({ message: /ARM_CLIENT_ID/ });
    expect(() => makeEksToken(SUITE, { ...request, cloudName: null }, at)).toThrow(/not known/);
  });
});

describe('a token for AKS', () => {
  let server: Server;
  afterEach(() => new Promise((resolve) => server.close(resolve)));

  async function entra(
    status: number,
    body: object,
  ): Promise<{ loginUrl: string; asked: { path: string; form: URLSearchParams }[] }> {
    const asked: { path: string; form: URLSearchParams }[] = [];
    server = createServer((request: IncomingMessage, response) => {
      let text = '';
      request.on('data', (chunk) => (text += String(chunk)));
      request.on('end', () => {
        asked.push({ path: request.url ?? '', form: new URLSearchParams(text) });
        response
          .writeHead(status, { 'content-type': 'application/json', connection: 'close' })
          .end(JSON.stringify(body));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return { loginUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
  }
  const now = () => new Date('2026-11-21T09:00:00Z');
  const make = (loginUrl: string) =>
    createClusterTokens(
      {
        aws: null,
        azure: { tenantId: 'tenant', clientId: 'app', clientSecret: 'hunter2', loginUrl },
        sandboxToken: null,
      },
      now,
    ).make({ cloud: 'aks', cloudName: 'c', region: 'swedencentral' });

  it('is asked of Microsoft Entra for the application of AKS', async () => {
    const { loginUrl, asked } = await entra(200, { access_token: 'jwt', expires_in: 3599 });
    expect(await make(loginUrl)).toEqual({ token: 'jwt', expiresAt: new Date('2026-11-21T09:59:59Z') });
    expect(asked).toHaveLength(1);
    expect(asked[0]?.path).toBe('/tenant/oauth2/v2.0/token');
    expect(Object.fromEntries(asked[0]?.form ?? [])).toEqual({
      grant_type: 'client_credentials',
      client_id: 'app',
      client_secret: 'hunter2',
      scope: '6dae42f8-4368-4678-94ff-3960e28e3630/.default',
    });
  });

  it('that is refused says how, and never what was sent', async () => {
    const { loginUrl } = await entra(401, { error: 'invalid_client', error_description: 'AADSTS7000215 hunter2' });
    await expect(make(loginUrl)).rejects.toMatchObject({
      kind: 'no_token',
      message: 'Microsoft Entra gave no token (status 401: invalid_client)',
    });
  });
});
