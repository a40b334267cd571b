/** The simulated Lambda Cloud at its wire: what its contract says, and what its switches make of it. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startSandbox, type Sandbox } from '../../sandbox/server.ts';

type Json = Record<string, unknown>;

const PUBLIC_KEY = `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${'A'.repeat(43)} me`;
const ORDER = { region_name: 'us-west-1', instance_type_name: 'gpu_1x_a10', ssh_key_names: ['mine'], name: 'test-1' };
const BOOTED_MS = 10_000;

let sandbox: Sandbox;
beforeAll(async () => {
  sandbox = await startSandbox({ dir: null, port: 0, time: 'explicit' });
});
afterAll(() => sandbox?.close());
beforeEach(async () => {
  await sandbox.reset();
  await call('POST', '/ssh-keys', { name: 'mine', public_key: PUBLIC_KEY });
});

interface Answer {
  status: number;
  body: Json;
}

async function call(method: string, path: string, body?: unknown, headers: Json = {}): Promise<Answer> {
  const response = await fetch(`${sandbox.urls.lambda}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${sandbox.apiKey}`, ...(headers as Record<string, string>) },
    body: body === undefined ? null : typeof body === 'string' ? body : JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as Json };
}

async function launch(extra: Json = {}): Promise<string> {
  const { status, body } = await call('POST', '/instance-operations/launch', { ...ORDER, ...extra });
  if (status !== 200) throw new Error(`not launched: ${JSON.stringify(body)}`);
  return ((body['data'] as Json)['instance_ids'] as string[])[0]!;
}

const read = async (id: string): Promise<Json> => (await call('GET', `/instances/${id}`)).body['data'] as Json;
const list = async (): Promise<Json[]> => (await call('GET', '/instances')).body['data'] as Json[];
const terminate = (id: string): Promise<Answer> =>
  call('POST', '/instance-operations/terminate', { instance_ids: [id] });
const set = (changes: Json): void => sandbox.setSwitches('lambda', changes);
const refusal = (status: number, code: string) => ({ status, body: { error: { code } } });
const recorded = (name: string): Answer => {
  const { status, body } = JSON.parse(readFileSync(`test/fixtures/lambda/${name}.json`, 'utf8')) as Answer;
  return { status, body };
};
/** What a recorded answer has, by name and kind of value. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.length === 0 ? [] : [shapeOf(value[0])];
  if (typeof value !== 'object' || value === null) return typeof value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, shapeOf(inner)]));
}

describe('the wire', () => {
  it('has the recorded shapes for types, instances and answers', async () => {
    const types = (await call('GET', '/instance-types')).body['data'] as Record<string, Json>;
    const expected = (recorded('instance-types').body['data'] as Record<string, Json>)['gpu_1x_a10'];
    expect(shapeOf(types['gpu_1x_a10'])).toEqual(shapeOf(expected));
    const tags = [{ key: 'prov-label', value: 'test-1' }];
    const id = await launch({ tags });
    expect(id).toMatch(/^[0-9a-f]{32}$/);
    expect(shapeOf(await read(id))).toEqual(shapeOf(recorded('instance-booting').body['data']));
    await sandbox.advance(BOOTED_MS);
    const [active] = recorded('instances').body['data'] as Json[];
    expect(shapeOf(await read(id))).toMatchObject(shapeOf(active) as Json);
    expect(shapeOf((await terminate(id)).body)).toMatchObject({ data: { terminated_instances: [{ id: 'string' }] } });
  });

  it('answers refusals as recorded', async () => {
    const headers = { authorization: 'Bearer wrong' };
    expect(await call('GET', '/instances', undefined, headers)).toEqual(recorded('err-auth-401'));
    expect(await call('GET', `/instances/${'0'.repeat(32)}`)).toEqual(recorded('err-404'));
    set({ drought: ['*'] });
    expect(await call('POST', '/instance-operations/launch', ORDER)).toEqual(recorded('err-capacity-400'));
    set({ drought: [], quota: 0 });
    expect(await call('POST', '/instance-operations/launch', ORDER)).toEqual(recorded('err-quota-400'));
    expect(await call('GET', '/nothing')).toMatchObject(refusal(404, 'global/object-does-not-exist'));
  });

  it('lets in by Basic with the key as user name, and reads JSON whatever its content type says', async () => {
    const basic = `Basic ${Buffer.from(`${sandbox.apiKey}:`).toString('base64')}`;
    expect((await call('GET', '/instances', undefined, { authorization: basic })).status).toBe(200);
    const plain = { 'content-type': 'text/plain;charset=UTF-8' };
    expect((await call('POST', '/instance-operations/launch', ORDER, plain)).status).toBe(200);
    expect(await call('POST', '/instance-operations/launch', 'no json')).toMatchObject(
      refusal(400, 'global/invalid-parameters'),
    );
  });

  it.each<[string, Json, string]>([
    ['no region', { region_name: undefined }, 'global/invalid-parameters'],
    ['a region that is none', { region_name: 'moon-1' }, 'global/invalid-parameters'],
    ['a type that is none', { instance_type_name: 'gpu_99x' }, 'global/invalid-parameters'],
    ['no key', { ssh_key_names: [] }, 'global/invalid-parameters'],
    ['two keys', { ssh_key_names: ['mine', 'mine'] }, 'global/invalid-parameters'],
    ['a key that is not there', { ssh_key_names: ['theirs'] }, 'global/object-does-not-exist'],
    ['two machines', { quantity: 2 }, 'global/invalid-parameters'],
    ['a long name', { name: 'x'.repeat(65) }, 'global/invalid-parameters'],
    ['a bad host name', { hostname: '-x' }, 'global/invalid-parameters'],
    ['a bad tag', { tags: [{ key: 'A', value: '' }] }, 'global/invalid-parameters'],
    ['a long tag', { tags: [{ key: 'ab', value: 'x'.repeat(129) }] }, 'global/invalid-parameters'],
    ['an unknown file system', { file_system_names: ['data'] }, 'global/object-does-not-exist'],
  ])('refuses a launch with %s', async (_name, changes, code) => {
    const answer = await call('POST', '/instance-operations/launch', { ...ORDER, ...changes });
    expect(answer.body).toMatchObject({ error: { code } });
    expect(answer.status).toBe(code === 'global/object-does-not-exist' ? 404 : 400);
    expect(sandbox.state().lambda.purchases['test-1'] ?? { accepted: 0 }).toMatchObject({ accepted: 0 });
  });

  it('keeps keys by name, makes them when asked, and file systems to their region', async () => {
    const again = await call('POST', '/ssh-keys', { name: 'mine', public_key: PUBLIC_KEY });
    expect(again).toMatchObject(refusal(400, 'global/duplicate'));
    const made = (await call('POST', '/ssh-keys', { name: 'made' })).body['data'] as Json;
    expect(made).toMatchObject({ private_key: expect.stringContaining('PRIVATE KEY') });
    expect((await call('GET', '/ssh-keys')).body['data']).toEqual([
      expect.objectContaining({ name: 'mine' }),
      { id: made['id'], name: 'made', public_key: made['public_key'] },
    ]);
    await call('DELETE', `/ssh-keys/${String(made['id'])}`);
    expect((await call('GET', '/ssh-keys')).body['data']).toHaveLength(1);

    const disk = (await call('POST', '/filesystems', { name: 'data', region: 'us-east-1' })).body['data'] as Json;
    expect(await call('POST', '/instance-operations/launch', { ...ORDER, file_system_names: ['data'] })).toMatchObject(
      refusal(400, 'instance-operations/launch/file-system-in-wrong-region'),
    );
    await call('POST', '/filesystems', { name: 'near', region: 'us-west-1' });
    const id = await launch({ file_system_names: ['near'] });
    expect(await read(id)).toMatchObject({ file_system_names: ['near'] });
    const systems = (await call('GET', '/file-systems')).body['data'] as Json[];
    expect(systems.map((one) => [one['name'], one['is_in_use']])).toEqual([
      ['data', false],
      ['near', true],
    ]);
    expect(await call('DELETE', `/filesystems/${String(systems[1]?.['id'])}`)).toMatchObject(
      refusal(400, 'filesystems/filesystem-in-use'),
    );
    expect(await call('DELETE', `/filesystems/${String(disk['id'])}`)).toMatchObject({
      status: 200,
      body: { data: { deleted_ids: [disk['id']] } },
    });
  });

  it('has firewall rules and rulesets, and tells what was launched and ended', async () => {
    const rule = { protocol: 'tcp', port_range: [443, 443], source_network: '0.0.0.0/0', description: 'TLS' };
    expect((await call('PUT', '/firewall-rules', { data: [rule] })).body['data']).toEqual([rule]);
    const ruleset = { name: 'web', region: 'us-west-1', rules: [rule] };
    const { id: rulesetId } = (await call('POST', '/firewall-rulesets', ruleset)).body['data'] as Json;
    const id = await launch({ firewall_rulesets: [{ id: rulesetId }] });
    const path = `/firewall-rulesets/${String(rulesetId)}`;
    expect((await call('GET', path)).body['data']).toMatchObject({ instance_ids: [id] });
    expect(await call('DELETE', path)).toMatchObject(refusal(400, 'firewall-rulesets/firewall-ruleset-in-use'));
    await terminate(id);
    await sandbox.advance(BOOTED_MS);
    expect((await call('DELETE', path)).status).toBe(200);
    const { events } = (await call('GET', '/audit-events')).body['data'] as { events: Json[] };
    const own = events.filter((event) => (event['resource_lrns'] as string[]).includes(`lrn:instance:${id}`));
    expect(own.map((event) => event['action'])).toEqual(['terminate', 'launch']);
  });
});

describe('the life of an instance', () => {
  it('is booting, active, terminating and terminated, and bills from active to the terminate', async () => {
    const id = await launch();
    const statuses = [(await read(id))['status']];
    await sandbox.advance(BOOTED_MS);
    statuses.push((await read(id))['status']);
    const report = () => sandbox.state().lambda.machines.find((machine) => machine.id === id)!;
    const charged = report().chargedMicroUsd;
    await sandbox.advance(3_600_000);
    expect(report().chargedMicroUsd - charged).toBe(750_000);
    await terminate(id);
    const final = report().chargedMicroUsd;
    statuses.push((await read(id))['status']);
    await sandbox.advance(BOOTED_MS);
    statuses.push((await read(id))['status']);
    expect(statuses).toEqual(['booting', 'active', 'terminating', 'terminated']);
    await sandbox.advance(3_600_000);
    expect(report().chargedMicroUsd).toBe(final);
    expect(await call('GET', `/instances/${id}`)).toMatchObject({ status: 404 });
    expect(await terminate(id)).toMatchObject({ status: 404 });
  });

  it('shows a terminated one for as long as the switch says, and new ones after the lag', async () => {
    set({ listLagMs: 5_000, keepTerminatedMs: 0 });
    const id = await launch();
    expect(await list()).toHaveLength(3);
    await sandbox.advance(BOOTED_MS);
    expect(await list()).toHaveLength(4);
    await terminate(id);
    await sandbox.advance(1_000);
    expect((await call('GET', `/instances/${id}`)).status).toBe(404);
    expect(await list()).toHaveLength(4);
    await sandbox.advance(5_000);
    expect(await list()).toHaveLength(3);
  });

  it('is unhealthy after a failed boot and without its host, preempted when its GPU is taken', async () => {
    const machineFault = (kind: 'failed_boot' | 'host_loss' | 'host_return' | 'reclaim', instanceId?: string) =>
      sandbox.addFault({
        provider: 'lambda',
        endpoint: 'machine',
        kind,
        ...(instanceId === undefined ? { times: 1 } : { match: { instanceId } }),
      });
    await machineFault('failed_boot');
    const failed = await launch();
    const other = await launch({ name: 'test-2' });
    await sandbox.advance(BOOTED_MS);
    expect(await read(failed)).toMatchObject({ status: 'unhealthy' });
    await machineFault('host_loss', other);
    expect(await read(other)).toMatchObject({ status: 'unhealthy' });
    await machineFault('host_return', other);
    await sandbox.advance(BOOTED_MS);
    expect(await read(other)).toMatchObject({ status: 'active' });
    await machineFault('reclaim', other);
    expect(await read(other)).toMatchObject({ status: 'preempted' });
  });
});

describe('capacity and limits', () => {
  it('lists at least 200 pairs of type and region, single RTX 4090s below a dollar among them', async () => {
    const types = Object.values((await call('GET', '/instance-types')).body['data'] as Record<string, Json>);
    const pairs = types.flatMap((type) => type['regions_with_capacity_available'] as Json[]);
    expect(pairs.length).toBeGreaterThanOrEqual(200);
    expect(sandbox.state().lambda.offersListed).toBeGreaterThanOrEqual(200);
    const cheap = types.find((type) => (type['instance_type'] as Json)['name'] === 'gpu_1x_rtx4090')!;
    expect(cheap['instance_type']).toMatchObject({ price_cents_per_hour: 69 });
    expect((cheap['regions_with_capacity_available'] as Json[]).length).toBeGreaterThan(0);
  });

  it('is used up by launches and comes back with terminates', async () => {
    set({ capacity: 2 });
    const regions = async (): Promise<string[]> => {
      const types = (await call('GET', '/instance-types')).body['data'] as Record<string, Json>;
      const { regions_with_capacity_available: listed } = types['gpu_1x_a10']!;
      return (listed as { name: string }[]).map(({ name }) => name);
    };
    const id = await launch();
    await launch();
    expect(await regions()).not.toContain('us-west-1');
    expect(await call('POST', '/instance-operations/launch', ORDER)).toEqual(recorded('err-capacity-400'));
    await terminate(id);
    await sandbox.advance(BOOTED_MS);
    expect(await regions()).toContain('us-west-1');
  });

  it('allows one launch in twelve seconds and one call a second when switched on', async () => {
    set({ rateLimits: 'documented' });
    expect((await call('GET', '/instances')).status).toBe(200);
    expect(await call('GET', '/instances')).toMatchObject(refusal(429, 'global/too-many-requests'));
    await sandbox.advance(1_000);
    await launch();
    await sandbox.advance(11_000);
    expect(await call('POST', '/instance-operations/launch', ORDER)).toMatchObject({ status: 429 });
    await sandbox.advance(1_000);
    await launch();
    expect(sandbox.state().lambda.purchases['test-1']).toMatchObject({ calls: 3, accepted: 2, refused: 1 });
  });
});
