import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HttpFailure, sendHttp, type HttpRequest } from '../../providers-dynamic/http.ts';
import { cut, reply, silence, startScriptedServer, type ScriptedServer } from '../support/http-script.ts';

let server: ScriptedServer;
beforeAll(async () => void (server = await startScriptedServer()));
afterAll(() => server.close());

const KEY = 'a-key-that-stays-secret';

function send(changes: Partial<HttpRequest> = {}) {
  return sendHttp({
    method: 'GET',
    url: `${server.url}/things/7?api_key=${KEY}`,
    headers: { Authorization: `Bearer ${KEY}` },
    timeoutMs: 5_000,
    ...changes,
  });
}

async function failureOf(work: Promise<unknown>): Promise<HttpFailure> {
  const error: unknown = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof HttpFailure)) throw new Error(`no HttpFailure but ${String(error)}`);
  expect(`${error.message} ${error.stack}`).not.toContain(KEY);
  return error;
}

describe('an HTTP exchange', () => {
  it('gives status, text and JSON; a body that is no JSON is text only', async () => {
    server.answer(reply(200, { a: 1 }), reply(502, '<html>'));
    expect(await send()).toMatchObject({ status: 200, text: '{"a":1}', json: { a: 1 } });
    expect(await send()).toMatchObject({ status: 502, text: '<html>', json: undefined });
  });

  it('sends a body as exactly application/json, and none where there is none', async () => {
    server.answer(reply(200, {}));
    await send({ method: 'PUT', body: { x: 'ü' } });
    await send();
    const [put, get] = server.requests.slice(-2);
    expect(put).toMatchObject({ method: 'PUT', body: { x: 'ü' }, headers: { 'content-type': 'application/json' } });
    expect(get?.headers['content-type']).toBeUndefined();
  });

  it('does not follow a redirect, which would carry the key elsewhere', async () => {
    server.answer(reply(302, '', { location: 'http://127.0.0.1:1/' }));
    expect((await send()).status).toBe(302);
  });

  it('knows that a refused connection never reached the other side', async () => {
    const gone = await startScriptedServer();
    await gone.close();
    expect(await failureOf(send({ url: `${gone.url}/x` }))).toMatchObject({
      reason: 'connection',
      mayHaveArrived: false,
    });
  });

  it('knows that a name without an address never reached the other side', async () => {
    expect(await failureOf(send({ url: 'http://no-such-host.invalid/x' }))).toMatchObject({ mayHaveArrived: false });
  });

  it('takes everything after the connection as maybe arrived', async () => {
    server.answer(cut);
    expect(await failureOf(send({ method: 'PUT', body: {} }))).toMatchObject({
      reason: 'connection',
      mayHaveArrived: true,
    });
    server.answer(silence);
    expect(await failureOf(send({ timeoutMs: 50 }))).toMatchObject({ reason: 'timeout', mayHaveArrived: true });
  });

  it('tells an abort before sending from one after it', async () => {
    expect(await failureOf(send({ signal: AbortSignal.abort() }))).toMatchObject({
      reason: 'aborted',
      mayHaveArrived: false,
    });
    const controller = new AbortController();
    server.answer(() => controller.abort());
    expect(await failureOf(send({ signal: controller.signal }))).toMatchObject({
      reason: 'aborted',
      mayHaveArrived: true,
    });
  });

  it('stops reading an answer without end', async () => {
    server.answer((_request, response) => {
      const chunk = Buffer.alloc(1024 * 1024, 97);
      const pump = () => {
        while (!response.destroyed && response.write(chunk));
      };
      response.on('drain', pump);
      pump();
    });
    expect(await failureOf(send({ timeoutMs: 15_000 }))).toMatchObject({ reason: 'too_large', mayHaveArrived: true });
  });
});
