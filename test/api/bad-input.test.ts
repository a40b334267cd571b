import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ERROR_TABLE, type ErrorCode } from '../../domain/error-table.ts';
import { listOffers, ORDER, startApiServer, type ApiServer, type Reply } from '../support/api-server.ts';

let server: ApiServer;
beforeAll(async () => {
  server = await startApiServer();
  await listOffers(server, [{ gpu: 'RTX 4090' }, { gpu: 'RTX 3090' }, { gpu: 'H100 SXM' }]);
});
afterAll(() => server?.stop());

function expectProblem(reply: Reply, code: ErrorCode, paths: string[] = []): void {
  expect(reply.headers.get('content-type')).toMatch(/^application\/problem\+json/);
  const { status, title } = ERROR_TABLE[code];
  expect(reply.body).toMatchObject({ status, title, code, type: `/api/v1/docs/errors#${code}` });
  expect(reply.status).toBe(status);
  expect(reply.body.requestId).toBe(reply.headers.get('x-request-id'));
  expect(reply.body.detail).not.toBe('');
  const got = ((reply.body.errors ?? []) as { path: string }[]).map((error) => error.path);
  expect(got).toEqual(paths);
}

const KEY = `ssh-ed25519 ${Buffer.concat([Buffer.from([0, 0, 0, 11]), Buffer.from('ssh-ed25519'), Buffer.from([0, 0, 0, 32]), Buffer.alloc(32, 5)]).toString('base64')} me`;

describe('POST /instances refuses', () => {
  const cases: [what: string, body: Record<string, unknown>, paths: string[], message: RegExp][] = [
    ['a GPU that nobody offers', { gpu: 'RTX 4O90' }, ['gpu'], /RTX 4090/],
    ['a negative price', { maxPriceUsdPerHour: '-1' }, ['maxPriceUsdPerHour'], /not negative/],
    ['a price of nothing', { maxPriceUsdPerHour: '0.00' }, ['maxPriceUsdPerHour'], /more than 0/],
    ['a price as a float', { maxPriceUsdPerHour: 0.6 }, ['maxPriceUsdPerHour'], /decimal string/],
    ['a price too exact', { maxPriceUsdPerHour: '0.1234567' }, ['maxPriceUsdPerHour'], /six decimals/],
    ['an image that is no reference', { image: 'not an image!' }, ['image'], /image reference/],
    ['an image with capitals in its path', { image: 'PyTorch/pytorch' }, ['image'], /image reference/],
    ['a key that is none', { sshPublicKeys: [KEY, 'ssh-ed25519 AAAA'] }, ['sshPublicKeys.1'], /no OpenSSH public key/],
    ['a private key', { sshPublicKeys: ['-----BEGIN OPENSSH PRIVATE KEY-----'] }, ['sshPublicKeys.0'], /private key/],
    ['an unknown field', { gpuType: 'x' }, ['gpuType'], /not a known field/],
    ['an unknown provider', { providers: ['aws'] }, ['providers.0'], /"vastai"/],
    ['an unknown strategy', { strategy: 'lottery' }, ['strategy'], /"race", "round_robin", /],
    ['a region in words', { regions: ['Sweden'] }, ['regions.0'], /two-letter/],
    ['too wide a race', { raceWidth: 11 }, ['raceWidth'], /10/],
    ['too many at once', { count: 101 }, ['count'], /100/],
    ['a bad variable name', { env: { 'A B': 'x' } }, ['env.A B'], /environment variable/],
    ['a long variable', { env: { A: 'x'.repeat(257) } }, ['env.A'], /256/],
    ['long start commands', { onStart: 'x'.repeat(3777) }, ['onStart'], /3616/],
    ['a lifetime that is none', { maxLifetime: '12' }, ['maxLifetime'], /duration/],
    ['a longer lifetime without a reason', { maxLifetime: '13 hours' }, ['overrideReason'], /is needed/],
    ['an unbounded lifetime without a reason', { maxLifetime: null }, ['overrideReason'], /is needed/],
  ];
  it.each(cases)('%s', async (_what, change, paths, message) => {
    const reply = await server.call('POST', '/api/v1/instances', { body: { ...ORDER, ...change } });
    expectProblem(reply, 'invalid_request', paths);
    expect(JSON.stringify(reply.body.errors)).toMatch(new RegExp(message.source.replaceAll('"', '\\\\"')));
  });

  it('what is missing, each by its name', async () => {
    expectProblem(await server.call('POST', '/api/v1/instances', { body: {} }), 'invalid_request', [
      'gpu',
      'maxPriceUsdPerHour',
    ]);
  });

  it('more than the caps, with the numbers', async () => {
    const reply = await server.call('POST', '/api/v1/instances', { body: { ...ORDER, count: 21 } });
    expectProblem(reply, 'cap_exceeded');
    expect(reply.body.maxInstances ?? reply.body.max).toBe(20);
  });

  it('a name that lives already', async () => {
    const body = { ...ORDER, name: 'taken' };
    expect((await server.call('POST', '/api/v1/instances', { body })).status).toBe(202);
    expectProblem(await server.call('POST', '/api/v1/instances', { body }), 'conflict', ['name']);
  });

  it('a planHash of another request', async () => {
    const plan = await server.call('POST', '/api/v1/instances', { body: { ...ORDER, dryRun: true } });
    expect(plan.status).toBe(200);
    const { planHash } = plan.body;
    const other = await server.call('POST', '/api/v1/instances', {
      body: { ...ORDER, maxPriceUsdPerHour: '0.70', planHash },
    });
    expectProblem(other, 'conflict', ['planHash']);
    expect((await server.call('POST', '/api/v1/instances', { body: { ...ORDER, planHash } })).status).toBe(202);
  });
});

describe('any route refuses', () => {
  it('malformed JSON, without repeating it', async () => {
    const reply = await server.call('POST', '/api/v1/instances', { raw: '{"gpu": "hunter2' });
    expectProblem(reply, 'malformed_request');
    expect(JSON.stringify(reply.body)).not.toContain('hunter2');
  });

  it('JSON that is no object, and no body at all', async () => {
    expectProblem(await server.call('POST', '/api/v1/instances', { raw: '[]' }), 'invalid_request', ['']);
    expectProblem(await server.call('POST', '/api/v1/instances', { raw: 'null' }), 'invalid_request', ['']);
    expectProblem(await server.call('POST', '/api/v1/instances'), 'malformed_request');
  });

  it('a body of 2 MB', async () => {
    const reply = await server.call('POST', '/api/v1/instances', {
      body: { ...ORDER, onStart: 'x'.repeat(2_000_000) },
    });
    expectProblem(reply, 'body_too_large');
    expect(reply.body.maxBytes).toBe(1_000_000);
  });

  it('a body that is not JSON', async () => {
    const headers = { 'content-type': 'text/plain' };
    expectProblem(await server.call('POST', '/api/v1/instances', { raw: 'gpu=x', headers }), 'unsupported_media_type');
  });

  it('an unknown path, and another method with what is allowed', async () => {
    expectProblem(await server.call('GET', '/api/v1/nothing'), 'not_found');
    const reply = await server.call('PUT', '/api/v1/instances', { body: {} });
    expectProblem(reply, 'method_not_allowed');
    expect(reply.headers.get('allow')?.split(', ').sort()).toEqual(['GET', 'HEAD', 'POST']);
  });

  it('a path that does not decode', async () => {
    const status = await new Promise<number | undefined>((resolve, reject) => {
      const sent = request(
        `${server.url}/api/v1/instances/%zz`,
        { headers: { authorization: `Bearer ${server.adminKey}` } },
        (response) => {
          response.resume();
          resolve(response.statusCode);
        },
      );
      sent.on('error', reject).end();
    });
    expect(status).toBe(404);
  });

  it('a query that it does not know, a bad limit, a cursor of elsewhere', async () => {
    expectProblem(await server.call('GET', '/api/v1/instances?colour=red'), 'invalid_request', ['colour']);
    expectProblem(await server.call('GET', '/api/v1/users/me?colour=red'), 'invalid_request', ['colour']);
    for (const limit of ['0', '501', 'x', '1.5', '']) {
      expectProblem(await server.call('GET', `/api/v1/instances?limit=${limit}`), 'invalid_request', ['limit']);
    }
    for (const cursor of [
      'x',
      Buffer.from('["2026"]').toString('base64url'),
      Buffer.from('["price","1;drop",""]').toString('base64url'),
    ]) {
      expectProblem(await server.call('GET', `/api/v1/instances?cursor=${cursor}`), 'invalid_request', ['cursor']);
      expectProblem(await server.call('GET', `/api/v1/inventory?cursor=${cursor}`), 'invalid_request', ['cursor']);
    }
    expectProblem(await server.call('GET', '/api/v1/instances?status=ready,gone'), 'invalid_request', ['status.1']);
  });

  it('an Idempotency-Key with blanks', async () => {
    const reply = await server.call('POST', '/api/v1/instances', {
      body: ORDER,
      headers: { 'idempotency-key': 'a b' },
    });
    expectProblem(reply, 'malformed_request', ['Idempotency-Key']);
  });
});

describe('what it logs and answers', () => {
  it('holds no credential, body or query value', async () => {
    const headers = { 'idempotency-key': 'secret-idem' };
    await server.call('POST', '/api/v1/instances', { body: { ...ORDER, env: { TOKEN: 'secret-env' } }, headers });
    await server.call('GET', '/api/v1/instances?name=secret-name');
    const all = server.log.join('\n');
    expect(all.length).toBeGreaterThan(0);
    expect(all).not.toContain(server.adminKey);
    expect(all).not.toMatch(/secret-(idem|env|name)/);
  });

  it('keeps environment variables sealed', async () => {
    const rows = await server.database.kysely.selectFrom('instances').select('request').execute();
    expect(JSON.stringify(rows)).toContain('TOKEN');
    expect(JSON.stringify(rows)).not.toContain('secret-env');
  });

  it('a 500 tells nothing but its request id', async () => {
    const { queue } = server.deps;
    const { dispatch } = queue;
    queue.dispatch = () => Promise.reject(new Error('relation "secret_table" does not exist'));
    const reply = await server.call('POST', '/api/v1/instances', {
      body: ORDER,
      headers: { 'x-request-id': 'req-12345678' },
    });
    queue.dispatch = dispatch;
    expectProblem(reply, 'internal');
    expect(reply.body.requestId).toBe('req-12345678');
    expect(JSON.stringify(reply.body)).not.toMatch(/secret_table|at \w+ \(|\.ts/);
    expect(server.log.join('\n')).toContain('secret_table');
  });
});
