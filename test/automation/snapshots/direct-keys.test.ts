import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { createKeyIssuer, sessionPolicy, type DirectKeyOptions } from '../../../automation/snapshots/direct-keys.ts';
import { RepositoryTrouble } from '../../../automation/snapshots/repository.ts';
import { parseStoreUrl } from '../../../domain/snapshots/store.ts';

interface Asked {
  method: string;
  url: URL;
  authorization: string | undefined;
  body: Record<string, unknown>;
}

let server: Server | undefined;
afterEach(async () => {
  server?.closeAllConnections();
  await new Promise((resolve) => (server ? server.close(resolve) : resolve(null)));
});

/** Answers each call by `reply`, in the vendor's form. */
async function startVendor(reply: (asked: Asked, base: string) => { status?: number; body: string }) {
  const calls: Asked[] = [];
  server = createServer((request: IncomingMessage, response) => {
    let text = '';
    request.on('data', (chunk: Buffer) => (text += chunk.toString()));
    request.on('end', () => {
      const asked: Asked = {
        method: request.method ?? '',
        url: new URL(request.url ?? '/', base),
        authorization: request.headers.authorization,
        body: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>),
      };
      calls.push(asked);
      const { status = 200, body } = reply(asked, base);
      response.writeHead(status).end(body);
    });
  });
  await new Promise<void>((resolve) => (server as Server).listen(0, '127.0.0.1', resolve));
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { base, calls };
}

const OPTIONS: DirectKeyOptions = {
  key: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'the-secret' },
  roleArn: 'arn:aws:iam::123456789012:role/muster-nodes',
  apiToken: 'cloudflare-token',
  now: () => new Date('2026-11-21T12:00:00Z'),
};
const REQUEST = { repository: 'ins_abcdefghijklmnop', access: 'write' as const, lifetimeMs: 3_600_000 };

describe('a short-lived key', () => {
  it.each(['s3', 'wasabi'])('of %s is of a role, for an hour, and for one prefix', async (kind) => {
    const { base, calls } = await startVendor(() => ({
      body: '<AssumeRoleResponse><Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s1</SecretAccessKey><SessionToken>t1</SessionToken></Credentials></AssumeRoleResponse>',
    }));
    const issue = createKeyIssuer({ ...OPTIONS, urls: { sts: base } });
    const key = await issue({ ...REQUEST, storeUrl: `${kind}://bucket/pre?region=eu-west-1` });
    expect(key).toEqual({
      AWS_ACCESS_KEY_ID: 'ASIA1',
      AWS_SECRET_ACCESS_KEY: 's1',
      AWS_SESSION_TOKEN: 't1',
      AWS_DEFAULT_REGION: 'eu-west-1',
    });
    const query = Object.fromEntries((calls[0] as Asked).url.searchParams);
    expect(query).toMatchObject({ Action: 'AssumeRole', RoleArn: OPTIONS.roleArn, DurationSeconds: '3600' });
    expect(query['X-Amz-Credential']).toContain('/eu-west-1/sts/aws4_request');
    expect(query['Policy']).toContain('arn:aws:s3:::bucket/pre/ins_abcdefghijklmnop/*');
    expect(JSON.stringify(query)).not.toContain('the-secret');
  });

  it('of R2 is for one prefix and an hour', async () => {
    const { base, calls } = await startVendor(() => ({
      body: JSON.stringify({ success: true, result: { accessKeyId: 'a', secretAccessKey: 's', sessionToken: 't' } }),
    }));
    const account = 'b'.repeat(32);
    const issue = createKeyIssuer({ ...OPTIONS, urls: { r2: base } });
    const key = await issue({ ...REQUEST, access: 'read', storeUrl: `r2://bucket?account=${account}` });
    expect(key).toMatchObject({ AWS_ACCESS_KEY_ID: 'a', AWS_SESSION_TOKEN: 't' });
    expect(calls[0]?.url.pathname).toBe(`/client/v4/accounts/${account}/r2/temp-access-credentials`);
    expect(calls[0]?.authorization).toBe('Bearer cloudflare-token');
    expect(calls[0]?.body).toEqual({
      bucket: 'bucket',
      parentAccessKeyId: 'AKIDEXAMPLE',
      permission: 'object-read-only',
      ttlSeconds: 3_600,
      prefixes: ['ins_abcdefghijklmnop/'],
    });
  });

  it('of B2 can add and read below one prefix, and delete nothing', async () => {
    const { base, calls } = await startVendor((asked, url) => {
      if (asked.url.pathname.endsWith('b2_authorize_account'))
        return {
          body: JSON.stringify({
            accountId: 'acc',
            authorizationToken: 'auth',
            apiInfo: { storageApi: { apiUrl: url } },
          }),
        };
      if (asked.url.pathname.endsWith('b2_list_buckets'))
        return { body: JSON.stringify({ buckets: [{ bucketId: 'bid' }] }) };
      return { body: JSON.stringify({ applicationKeyId: 'kid', applicationKey: 'ksecret' }) };
    });
    const issue = createKeyIssuer({ ...OPTIONS, urls: { b2: base } });
    const key = await issue({ ...REQUEST, storeUrl: 'b2://bucket/pre?region=us-west-004' });
    expect(key).toEqual({
      AWS_ACCESS_KEY_ID: 'kid',
      AWS_SECRET_ACCESS_KEY: 'ksecret',
      AWS_DEFAULT_REGION: 'us-west-004',
    });
    expect(calls[2]?.body).toMatchObject({
      capabilities: ['listBuckets', 'listFiles', 'readFiles', 'writeFiles'],
      validDurationInSeconds: 3_600,
      bucketId: 'bid',
      namePrefix: 'pre/ins_abcdefghijklmnop/',
    });
  });

  it('that is refused is trouble with a status, and nothing of the request', async () => {
    const { base } = await startVendor(() => ({ status: 403, body: 'the-secret is wrong' }));
    const issue = createKeyIssuer({ ...OPTIONS, urls: { sts: base } });
    const asked = issue({ ...REQUEST, storeUrl: 's3://bucket?region=eu-west-1' });
    await expect(asked).rejects.toThrow(RepositoryTrouble);
    await expect(asked).rejects.toThrow(/^STS answered 403 when asked for a short-lived key$/);
  });

  it('reads nothing of others and deletes nothing but locks, by its policy', () => {
    const store = parseStoreUrl('s3://bucket/pre?region=eu-west-1');
    if (store === undefined || store.kind === 'file') throw new Error('a bucket is expected');
    const statements = (access: 'read' | 'write') =>
      (
        JSON.parse(sessionPolicy({ store, prefix: 'pre/x', access })) as {
          Statement: { Action: string[]; Resource: unknown }[];
        }
      ).Statement;
    expect(statements('read').flatMap(({ Action }) => Action)).toEqual([
      's3:ListBucket',
      's3:GetBucketLocation',
      's3:GetObject',
    ]);
    const deleting = statements('write').filter(({ Action }) => Action.includes('s3:DeleteObject'));
    expect(deleting.map(({ Resource }) => Resource)).toEqual(['arn:aws:s3:::bucket/pre/x/locks/*']);
    expect(sessionPolicy({ store, prefix: 'pre/x'.repeat(20), access: 'write' }).length).toBeLessThan(2_048);
  });
});
