import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { postDelivery, type PostOptions } from '../../../automation/webhooks/post-delivery.ts';

let server: Server;
let base: string;
const seen: { method: string | undefined; path: string | undefined; body: string }[] = [];
beforeAll(async () => {
  server = createServer((request, response) => {
    void readAll(request).then((body) => {
      seen.push({ method: request.method, path: request.url, body });
      if (request.url === '/redirect') response.writeHead(307, { location: `${base}/elsewhere` }).end();
      else if (request.url === '/busy') response.writeHead(503, { 'retry-after': '7' }).end('later');
      else if (request.url === '/large') response.writeHead(200).end(`\u0000\u001b[31m${'x'.repeat(3_000_000)}`);
      else if (request.url === '/cut') response.destroy();
      else if (request.url !== '/silent') response.writeHead(204).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(resolve));
});

async function readAll(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

const options = (change: Partial<PostOptions> = {}): PostOptions => ({
  headers: { 'content-type': 'application/json' },
  body: '{"grüße":1}',
  targets: 'any',
  timeoutMs: 5_000,
  signal: new AbortController().signal,
  ...change,
});

describe('posting a delivery', () => {
  it('sends the body once and tells the answer', async () => {
    expect(await postDelivery(`${base}/ok`, options())).toEqual({ status: 204, retryAfterMs: null, excerpt: '' });
    expect(seen.filter((one) => one.path === '/ok')).toEqual([{ method: 'POST', path: '/ok', body: '{"grüße":1}' }]);
  });

  it('follows no redirect', async () => {
    expect((await postDelivery(`${base}/redirect`, options())).status).toBe(307);
    expect(seen.some((one) => one.path === '/elsewhere')).toBe(false);
  });

  it('keeps only the beginning of a large answer, without what could rewrite a terminal', async () => {
    const { status, excerpt } = await postDelivery(`${base}/large`, options());
    expect(status).toBe(200);
    expect(excerpt).toMatch(/^\[31mx+$/);
    expect(excerpt.length).toBeLessThanOrEqual(1_024);
  });

  it('tells how long the receiver asks to be left alone', async () => {
    expect(await postDelivery(`${base}/busy`, options())).toEqual({
      status: 503,
      retryAfterMs: 7_000,
      excerpt: 'later',
    });
  });

  it('says why there was no answer: too late, cut off, nobody there, stopped', async () => {
    await expect(postDelivery(`${base}/silent`, options({ timeoutMs: 50 }))).rejects.toThrow('no answer within 0.05 s');
    await expect(postDelivery(`${base}/cut`, options())).rejects.toMatchObject({ name: 'PostError' });
    await expect(postDelivery('http://127.0.0.1:1/', options())).rejects.toThrow('ECONNREFUSED');
    await expect(postDelivery(`${base}/silent`, options({ signal: AbortSignal.abort() }))).rejects.toThrow('stopped');
  });

  it('reaches nothing that is not public, by address or by name, and nothing in clear', async () => {
    const before = seen.length;
    const { port } = new URL(base);
    for (const host of [
      '127.0.0.1',
      'localhost',
      '[::1]',
      '[::ffff:127.0.0.1]',
      '0x7f.1',
      '2130706433',
      '169.254.169.254',
      '10.0.0.1',
    ]) {
      await expect(postDelivery(`https://${host}:${port}/`, options({ targets: 'public' })), host).rejects.toThrow(
        'which is not a public address',
      );
    }
    await expect(postDelivery(`${base}/ok`, options({ targets: 'public' }))).rejects.toThrow('only https');
    expect(seen.length).toBe(before);
  });
});
