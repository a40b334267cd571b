import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeEvent, makeInstance, makeOperation } from './contract-rows.ts';
import { API_KEY, NOW, startContractServer } from './contract-server.ts';
import type { ContractServer } from './contract-server.ts';
import { makeHome, runMuster, startMuster } from './run-muster.ts';
import type { Home } from './run-muster.ts';

const OPERATION = 'op_createcreatecrea';
const INSTANCE = 'ins_aaaaaaaaaaaaaaaa';

let server: ContractServer;
let home: Home;
beforeEach(async () => {
  server = await startContractServer();
  home = makeHome();
});
afterEach(async () => {
  home.remove();
  await server.close();
});

const env = () => ({ MUSTER_API_KEY: API_KEY, MUSTER_URL: server.url });
const streams = () => server.requests.filter(({ path }) => path.endsWith('/events'));

/** An operation with its events so far; `end` adds the last one. */
function makeHistory(end?: { status: 'succeeded' | 'failed' | 'canceled'; code?: string }): void {
  const operation = makeOperation(OPERATION, 'provision_instance', INSTANCE);
  const resource = { resource: 'att_aaaaaaaaaaaaaaaa', instanceId: INSTANCE, type: 'vastai:Instance', op: 'create' };
  server.events.push(
    makeEvent(OPERATION, 1, 'status', { status: 'queued' }),
    makeEvent(OPERATION, 2, 'status', { status: 'running' }),
    makeEvent(OPERATION, 3, 'resource', { ...resource, status: 'started', providerInstanceId: null }),
    makeEvent(OPERATION, 4, 'resource', { ...resource, status: 'done', providerInstanceId: '70001' }),
  );
  operation.status = 'running';
  if (end) {
    const error = end.code === undefined ? null : { code: end.code, detail: `it is ${end.code}` };
    server.events.push(makeEvent(OPERATION, 5, 'status', { status: end.status, ...(error ? { error } : {}) }));
    Object.assign(operation, { status: end.status, error, finishedAt: NOW });
  }
  server.operations.set(OPERATION, operation);
}

describe('operations watch', () => {
  it('shows each resource and ends with 0 when the operation has succeeded', async () => {
    makeHistory({ status: 'succeeded' });
    const { code, stdout } = await runMuster(home, ['operations', 'watch', OPERATION], { env: env() });
    expect(code).toBe(0);
    expect(stdout.trimEnd().split('\n')).toEqual([
      '09:00:00  queued',
      '09:00:00  running',
      `09:00:00  creating ${INSTANCE} by att_aaaaaaaaaaaaaaaa`,
      `09:00:00  created ${INSTANCE} by att_aaaaaaaaaaaaaaaa as 70001`,
      '09:00:00  succeeded',
    ]);
  });

  it('goes on after the last event seen when the connection breaks, missing none and repeating none', async () => {
    makeHistory({ status: 'succeeded' });
    server.breakAfter.push(1, 2);
    const { code, stdout } = await runMuster(home, ['operations', 'watch', OPERATION, '--json'], { env: env() });
    expect(code).toBe(0);
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.slice(0, -1).map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5]);
    expect(lines.at(-1)).toMatchObject({ id: OPERATION, status: 'succeeded' });
    expect(streams().map(({ lastEventId }) => lastEventId)).toEqual([undefined, '1', '3']);
  });

  it.each([
    ['no_capacity', 5],
    ['boot_timeout', 5],
    ['cap_exceeded', 5],
    ['engine_failed', 1],
  ])('tells why it failed: %s ends with %i', async (reason, exitCode) => {
    makeHistory({ status: 'failed', code: reason });
    const { code, stderr } = await runMuster(home, ['operations', 'watch', OPERATION], { env: env() });
    expect(code).toBe(exitCode);
    expect(stderr).toContain(`provision_instance ${OPERATION} failed: it is ${reason} (${reason})`);
  });

  it('ends with 4 when there is no such operation', async () => {
    expect((await runMuster(home, ['operations', 'watch', 'op_x'], { env: env() })).code).toBe(4);
  });

  it('stopped by Ctrl-C leaves the operation running and says how to go on', async () => {
    makeHistory();
    const watching = startMuster(home, ['operations', 'watch', OPERATION], { env: env() });
    await watching.shows('as 70001');
    watching.process.kill('SIGINT');
    const { code, stderr } = await watching.ended;
    expect(code).toBe(130);
    expect(stderr).toContain(`muster operations watch ${OPERATION}`);
    expect(stderr).toContain(`muster operations cancel ${OPERATION}`);
    expect(server.requests.every(({ method }) => method === 'GET')).toBe(true);
  });
});

describe('instances create --watch', () => {
  const create = ['instances', 'create', '--gpu', 'RTX 4090', '--max-price', '0.60', '--yes', '--watch'];

  it('ends with the address to log in at', async () => {
    makeHistory({ status: 'succeeded' });
    server.instances.set(INSTANCE, makeInstance(INSTANCE, 'train-1', 'ready'));
    const { code, stdout } = await runMuster(home, create, { env: env() });
    expect(code).toBe(0);
    expect(stdout).toContain(`Open it: muster instances ssh ${INSTANCE}`);
    expect(stdout).toContain('root@203.0.113.7:41022');
  });
});

describe('operations cancel', () => {
  it('asks for it, with an idempotency key', async () => {
    makeHistory();
    const args = ['operations', 'cancel', OPERATION, '--reason', 'wrong size'];
    const { code, stdout } = await runMuster(home, args, { env: env() });
    expect(code).toBe(0);
    expect(stdout).toContain('requested');
    expect(server.requests[0]).toMatchObject({ method: 'POST', body: { reason: 'wrong size' } });
    expect(server.requests[0]?.idempotencyKey).toBeDefined();
  });
});

describe('instances events', () => {
  it('ends by itself when the instance is destroyed', async () => {
    makeHistory({ status: 'succeeded' });
    server.instances.set(INSTANCE, makeInstance(INSTANCE, 'train-1', 'destroyed'));
    const { code, stdout } = await runMuster(home, ['instances', 'events', INSTANCE, '--json'], { env: env() });
    expect(code).toBe(0);
    expect(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line).seq),
    ).toEqual([1, 2, 3, 4, 5]);
  });

  it('prints what happens until the person stops it', async () => {
    makeHistory();
    server.instances.set(INSTANCE, makeInstance(INSTANCE, 'train-1', 'booting'));
    const following = startMuster(home, ['instances', 'events', INSTANCE], { env: env() });
    await following.shows('as 70001');
    following.process.kill('SIGINT');
    const { code, stdout } = await following.ended;
    expect(code).toBe(130);
    expect(stdout).toContain(`2026-11-21 09:00:00  ${OPERATION}  running`);
  });
});
