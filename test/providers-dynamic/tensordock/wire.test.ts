import { describe, expect, it } from 'vitest';
import { ProviderError } from '../../../domain/provider-error.ts';
import { classifyTensordockError, isErrorBody } from '../../../providers-dynamic/tensordock/errors.ts';
import type { CallKind } from '../../../providers-dynamic/vendor-sender.ts';
import { readInstanceList, readInstanceReply } from '../../../providers-dynamic/tensordock/wire.ts';
import type { Json } from '../../../providers-dynamic/http.ts';
import { INSTANCE, recorded, toReply } from './fixture.ts';

const RUNNING = recorded('get-running-unwrapped').body;
const isUnbelievable = (error: unknown) => error instanceof ProviderError && error.kind === 'unbelievable';

function observe(changes: Json = {}) {
  return readInstanceReply({ ...RUNNING, ...changes }, INSTANCE).observed;
}

function kindOf(call: CallKind, status: number, body: unknown) {
  return classifyTensordockError(call, toReply(status, body)).kind;
}

describe('one instance', () => {
  it('is read as it came live, not wrapped', () => {
    expect(observe()).toEqual({
      provider: 'tensordock',
      providerInstanceId: INSTANCE,
      label: 'prov-a-1',
      status: 'running',
      statusDetail: 'running',
      machineId: null,
      gpu: 'RTX 4090',
      gpuCount: 1,
      gpuMemoryGib: 24,
      priceMicroUsdPerHour: 468_000n,
      interruptible: false,
      interrupted: false,
      ssh: { host: '198.51.100.30', port: 20456, user: 'root' },
      image: null,
      region: null,
      startedAt: null,
    });
  });

  it('is read wrapped too, without an address yet', () => {
    expect(readInstanceReply(recorded('get-creating-wrapped').body, INSTANCE)).toMatchObject({
      observed: { status: 'starting', ssh: null, priceMicroUsdPerHour: 468_000n },
      ipAddress: null,
      isWhole: false,
    });
  });

  it('is never taken for another one, or for none', () => {
    for (const body of [{}, { data: {} }, { data: null }, [], null, { data: [RUNNING] }])
      expect(() => readInstanceReply(body, INSTANCE)).toThrow(expect.toSatisfy(isUnbelievable));
    expect(() => readInstanceReply(RUNNING, 'another')).toThrow(/something else/);
  });

  it.each([
    ['creating', 'starting'],
    ['Queued', 'starting'],
    ['PENDING', 'starting'],
    ['provisioning', 'starting'],
    ['starting', 'starting'],
    ['Running', 'running'],
    ['stopping', 'stopped'],
    ['Stopped', 'stopped'],
    ['StoppedDisassociated', 'stopped'],
    ['stopped_disassociated', 'stopped'],
    ['Stopped-Disassociated', 'stopped'],
    ['stopped disassociated', 'stopped'],
    ['deleting', 'failed'],
    ['deleted', 'failed'],
    ['error', 'failed'],
    ['hibernating', 'unknown'],
    ['', 'unknown'],
    [undefined, 'unknown'],
  ])('%s is %s', (status, expected) => {
    expect(observe({ status }).status).toBe(expected);
  });

  it('says whether a stopped machine still bills its GPU', () => {
    expect(observe({ status: 'stopped' }).statusDetail).toMatch(/bills in full/);
    expect(observe({ status: 'StoppedDisassociated' }).statusDetail).toMatch(/only the disk bills/);
  });

  it('has the port that was really forwarded; without one, port 22 with a warning', () => {
    expect(observe({ portForwards: [{ internal_port: 80, external_port: 9 }] })).toMatchObject({
      ssh: { port: 22 },
      statusDetail: expect.stringMatching(/can never be reached/),
    });
    expect(observe({ portForwards: [], useDedicatedIp: false })).toMatchObject({
      ssh: null,
      statusDetail: expect.stringMatching(/can never be reached/),
    });
    expect(observe({ portForwards: [{ internal_port: 22, external_port: 0 }] }).ssh?.port).toBe(22);
    expect(observe({ portForwards: undefined }).ssh).toBeNull();
    expect(observe({ ipAddress: '' }).ssh).toBeNull();
    expect(observe({ status: 'stopped' }).ssh).toBeNull();
  });

  it('may have lost its GPU, and be priced by the rate of a list', () => {
    expect(observe({ resources: { gpus: {} } })).toMatchObject({ gpu: null, gpuCount: null });
    expect(observe({ rateHourly: undefined, price_per_hour: '0.2' }).priceMicroUsdPerHour).toBe(200_000n);
    expect(observe({ rateHourly: null }).priceMicroUsdPerHour).toBeNull();
  });
});

describe('lists', () => {
  it('are read in all three shapes', () => {
    for (const shape of ['a', 'b'] as const) {
      expect(readInstanceList(recorded(`list-shape-${shape}`).body)).toMatchObject([
        {
          observed: {
            providerInstanceId: INSTANCE,
            label: 'prov-a-1',
            status: 'running',
            gpu: 'RTX 4090',
            gpuCount: 1,
            priceMicroUsdPerHour: 468_000n,
            // Which port leads to it the list does not say.
            ssh: null,
            startedAt: '2026-08-20T10:00:00.000Z',
          },
          ipAddress: '198.51.100.30',
          isWhole: false,
        },
      ]);
    }
    expect(readInstanceList(recorded('list-shape-c').body)).toMatchObject([
      { observed: { providerInstanceId: INSTANCE, label: 'prov-a-1', status: 'stopped' } },
    ]);
    expect(readInstanceList({ data: { instances: [] } })).toEqual([]);
    expect(readInstanceList({ data: [] })).toEqual([]);
  });

  it('are believed whole or not at all', () => {
    const [row] = (recorded('list-shape-b').body as { data: Json[] }).data;
    const bad = [
      {},
      [],
      null,
      { data: null },
      { data: {} },
      { data: { instances: null } },
      { data: { type: 'list', attributes: {} } },
      { data: [row, { name: 'no id' }] },
      { data: [row, null] },
    ];
    for (const body of bad) expect(() => readInstanceList(body)).toThrow(expect.toSatisfy(isUnbelievable));
  });
});

describe('errors', () => {
  it('are known in bodies of status 200, and answers are not taken for them', () => {
    for (const name of ['create-200-error', 'create-200-no-public-ip', 'create-validation-400', 'get-404'])
      expect(isErrorBody(recorded(name).body), name).toBe(true);
    const answers = [
      'create-ok',
      'delete-ok',
      'get-running-unwrapped',
      'get-creating-wrapped',
      'hostnodes',
      'locations',
    ];
    for (const name of [...answers, 'list-shape-a', 'list-shape-b', 'list-shape-c', 'stop-ok'])
      expect(isErrorBody(recorded(name).body), name).toBe(false);
    expect(isErrorBody({ message: 'Instance deleted' })).toBe(false);
    expect(isErrorBody({ message: 'no', status: 400 })).toBe(true);
    expect(isErrorBody({ id: 'a', status: 'error', error: null })).toBe(false);
  });

  it.each<[string, number, unknown]>([
    ['no_capacity', 200, recorded('create-200-error').body],
    ['no_capacity', 200, recorded('create-200-no-public-ip').body],
    ['no_capacity', 400, { error: 'Hostnode unavailable' }],
    ['no_capacity', 404, { error: 'Hostnode not found' }],
    ['no_capacity', 400, [{ code: 'custom', message: 'no such host', path: ['data', 'attributes', 'hostnode_id'] }]],
    ['no_capacity', 200, { error: 'No free ports on hostnode' }],
    ['invalid', 400, recorded('create-validation-400').body],
    ['invalid', 200, [{ code: 'custom', message: 'odd', path: ['data', 'attributes', 'resources', 'vcpu_count'] }]],
    ['invalid', 400, { error: 'Unknown image' }],
    ['billing', 200, { error: 'You need at least $1.00 to deploy', status: 400 }],
    ['billing', 402, { message: 'Insufficient funds' }],
    ['auth', 401, { error: 'Unauthorized' }],
    ['auth', 403, { error: 'Forbidden' }],
    ['unknown', 403, '<html>challenge</html>'],
    ['unknown', 429, { error: 'Too many requests' }],
    ['unknown', 200, { error: 'Too many requests', status: 429 }],
    ['unknown', 500, { error: 'oops' }],
    ['unknown', 504, '<html>gateway time-out</html>'],
    ['unknown', 200, { error: 'oops', status: 500 }],
    ['unknown', 200, { error: 'Internal server error' }],
    ['unknown', 200, { error: 'Request timed out, try again' }],
    ['unknown', 409, { error: 'a deployment is in progress' }],
    ['unknown', 200, '<html>hello</html>'],
    ['unknown', 302, ''],
    ['unknown', 404, { error: 'Route POST /instances not found' }],
    ['unknown', 200, {}],
  ])('of a purchase: %s for %d %j', (kind, status, body) => {
    expect(kindOf('purchase', status, body)).toBe(kind);
  });

  it.each<[string, CallKind, number, unknown]>([
    ['not_found', 'read', 404, recorded('get-404').body],
    ['not_found', 'write', 404, { message: 'Not Found' }],
    ['not_found', 'read', 200, { error: 'Instance not found', status: 404 }],
    ['unbelievable', 'read', 404, '404 page not found'],
    ['unbelievable', 'read', 404, ''],
    ['unbelievable', 'write', 404, { message: 'Cannot DELETE /api/v3/instances/x' }],
    ['retryable', 'read', 503, { error: 'Service unavailable' }],
    ['retryable', 'read', 200, { error: 'oops', status: 502 }],
    ['unbelievable', 'read', 200, { error: 'something else' }],
    ['rate_limited', 'read', 429, ''],
    ['rate_limited', 'write', 200, { error: 'Rate limit exceeded' }],
    ['unknown', 'write', 500, { error: 'oops' }],
    ['retryable', 'write', 409, { error: 'busy' }],
    ['retryable', 'write', 400, { error: 'Instance must be stopped' }],
    ['no_capacity', 'write', 400, { error: 'The GPU is no longer available' }],
    ['invalid', 'write', 400, { error: 'bad' }],
    ['auth', 'read', 401, ''],
  ])('of other calls: %s of a %s for %d %j', (kind, call, status, body) => {
    expect(kindOf(call, status, body)).toBe(kind);
  });

  it('name the machine that a refused purchase has made all the same', () => {
    const body = { error: 'could not attach the disk', status: 400, data: { id: INSTANCE } };
    expect(classifyTensordockError('purchase', toReply(200, body))).toMatchObject({
      kind: 'no_capacity',
      createdInstanceId: INSTANCE,
    });
  });

  it('tell how long to wait, whatever header says so', () => {
    const wait = (headers: Record<string, string>) =>
      classifyTensordockError('read', toReply(429, { error: 'slow down' }, headers)).retryAfterMs;
    expect(wait({ 'Retry-After': '7' })).toBe(7_000);
    expect(wait({ 'Retry-After': '9999' })).toBe(120_000);
    expect(wait({ 'X-RateLimit-Reset': '12' })).toBe(12_000);
    const inHalfAMinute = Date.now() / 1_000 + 30;
    expect(wait({ 'X-RateLimit-Reset': String(inHalfAMinute) })).toBeGreaterThan(25_000);
    expect(wait({ 'Retry-After': new Date(Date.now() + 20_000).toUTCString() })).toBeGreaterThan(15_000);
    expect(wait({})).toBeUndefined();
    expect(wait({ 'Retry-After': 'soon' })).toBeUndefined();
  });
});
