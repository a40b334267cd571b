import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { MachineWatch, RunningMachine } from '../../sandbox/vendor.ts';
import { type Sandbox, startSandbox } from '../../sandbox/server.ts';

type Json = Record<string, unknown>;
type Issue = { code: string; message: string; path: string[] };

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZvb2Jhcm9vZm9vYmFyb29mb29iYXJvb2Zvb2Jhcm9v me';
const V0_NAME = 'geforcertx4090-pcie-24gb';
const running: RunningMachine[] = [];
const watch: MachineWatch = { onRunning: (machine) => void running.push(machine), onGone: () => {} };

let sandbox: Sandbox;

beforeAll(async () => {
  sandbox = await startSandbox({ dir: null, port: 0, time: 'explicit', machineWatch: watch });
});
afterAll(() => sandbox?.close());
beforeEach(() => sandbox.reset());

async function call(method: string, path: string, body?: unknown, key = sandbox.apiKey) {
  const response = await fetch(`${sandbox.urls.tensordock}/api/v2${path}`, {
    method,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return {
    status: response.status,
    text,
    body: (text === '' ? {} : JSON.parse(text)) as Json,
    headers: response.headers,
  };
}

async function listHosts(): Promise<Json[]> {
  return ((await call('GET', '/hostnodes')).body.data as { hostnodes: Json[] }).hostnodes;
}

async function findHost(hasPublicIp = true): Promise<Json> {
  const host = (await listHosts()).find((each) => {
    const free = each.available_resources as { gpus: Json[]; has_public_ip_available: boolean };
    const [gpu] = free.gpus;
    return gpu?.v0Name === V0_NAME && Number(gpu.availableCount) >= 2 && free.has_public_ip_available === hasPublicIp;
  });
  if (!host) throw new Error('no such host');
  return host;
}

async function order(attributes: Json = {}) {
  const host = await findHost();
  return {
    data: {
      type: 'virtualmachine',
      attributes: {
        name: 'vm-a',
        type: 'virtualmachine',
        image: 'ubuntu2404_ml_pytorch',
        resources: { vcpu_count: 8, ram_gb: 32, storage_gb: 200, gpus: { [V0_NAME]: { count: 1 } } },
        hostnode_id: host.id,
        port_forwards: [{ internal_port: 22, external_port: 22 }],
        ssh_key: KEY,
        ...attributes,
      } as Json,
    },
  };
}

async function rent(attributes: Json = {}): Promise<string> {
  const answer = await call('POST', '/instances', await order(attributes));
  if (answer.status !== 201) throw new Error(`${answer.status} ${answer.text}`);
  return (answer.body.data as { id: string }).id;
}

describe('the wire', () => {
  it('lists hosts with what is free, and places with what they sell, the latter for anybody', async () => {
    const hosts = await listHosts();
    expect(hosts.length).toBeGreaterThan(60);
    const named = (await call('GET', `/hostnodes?gpu_model=${V0_NAME}&status=available`)).body.data as {
      hostnodes: Json[];
    };
    expect(named.hostnodes.length).toBeGreaterThan(10);
    expect(named.hostnodes.length).toBeLessThan(hosts.length);
    const [host] = hosts;
    expect((await call('GET', `/hostnodes/${String(host?.id)}`)).body).toEqual({ data: host });
    expect((await call('GET', '/hostnodes/nope')).status).toBe(404);
    const places = await call('GET', '/locations', undefined, 'wrong');
    expect(places.status).toBe(200);
    const [place] = (places.body.data as { locations: { tier: number; gpus: Json[] }[] }).locations;
    expect(place?.tier).toBeTypeOf('number');
    expect(place?.gpus[0]).toMatchObject({
      v0Name: expect.any(String),
      max_count: expect.any(Number),
      pricing: { per_vcpu_hr: 0.003 },
    });
    expect(await call('GET', '/hostnodes', undefined, 'wrong')).toMatchObject({
      status: 401,
      body: { error: expect.any(String) },
    });
    expect(await call('GET', '/nothing')).toMatchObject({ status: 404 });
  });

  it('bills what the vendor adds up, per second from the purchase on', async () => {
    const host = await findHost();
    const { price_per_hr: price } = (host.available_resources as { gpus: { price_per_hr: number }[] }).gpus[0]!;
    const id = await rent();
    const rate = price + 8 * 0.003 + 32 * 0.002 + 200 * 0.00005;
    expect((await call('GET', `/instances/${id}`)).body.rateHourly).toBeCloseTo(rate, 5);
    await sandbox.advance(1_800_000);
    const [machine] = sandbox.state().tensordock.machines.filter((each) => each.id === id);
    expect(machine?.chargedMicroUsd).toBeCloseTo((rate / 2) * 1e6, -1);
    expect(machine?.priceMicroUsdPerHour).toBeCloseTo(rate * 1e6, -1);
  });

  it('takes what is rented off the host, and gives it back', async () => {
    const free = async (id: unknown) =>
      (await listHosts()).find((host) => host.id === id)?.available_resources as {
        gpus: Json[];
        ram_gb: number;
        vcpu_count: number;
      };
    const { id: hostId } = await findHost();
    const before = await free(hostId);
    const id = await rent();
    const during = await free(hostId);
    expect(Number(before.gpus[0]?.availableCount) - Number(during.gpus[0]?.availableCount)).toBe(1);
    expect([before.ram_gb - during.ram_gb, before.vcpu_count - during.vcpu_count]).toEqual([32, 8]);
    await call('DELETE', `/instances/${id}`);
    await sandbox.advance(60_000);
    expect(await free(hostId)).toEqual(before);
  });

  it('modifies a machine only while it is stopped, and its price with it', async () => {
    const id = await rent();
    await sandbox.advance(600_000);
    expect((await call('PUT', `/instances/${id}/modify`, { cpuCores: 4 })).status).toBe(400);
    await call('POST', `/instances/${id}/stop`);
    await sandbox.advance(60_000);
    const before = (await call('GET', `/instances/${id}`)).body;
    expect(await call('PUT', `/instances/${id}/modify`, { cpuCores: 3 })).toMatchObject({ status: 400 });
    expect(await call('PUT', `/instances/${id}/modify`, { diskGb: 100 })).toMatchObject({ status: 400 });
    expect(await call('PUT', `/instances/${id}/modify`, { cpuCores: 4, ramGb: 16, diskGb: 250 })).toMatchObject({
      status: 200,
    });
    const after = (await call('GET', `/instances/${id}`)).body;
    expect(after.resources).toMatchObject({ vcpu_count: 4, ram_gb: 16, storage_gb: 250 });
    expect(Number(before.rateHourly) - Number(after.rateHourly)).toBeCloseTo(4 * 0.003 + 16 * 0.002 - 50 * 0.00005, 5);
  });

  it('keeps secrets, whose values only a read by id tells', async () => {
    const attributes = { name: 'laptop', type: 'SSHKEY', value: KEY };
    const created = await call('POST', '/secrets', { data: { type: 'secret', attributes } });
    const { id } = created.body.data as { id: string };
    expect((await call('GET', '/secrets')).text).not.toContain(KEY);
    expect((await call('GET', `/secrets/${id}`)).body).toEqual({ data: { id, ...attributes } });
    expect((await call('PATCH', `/secrets/${id}`, {})).status).toBe(405);
    sandbox.setSwitches('tensordock', { isSshKeyInstalled: true });
    await rent({ ssh_key: undefined, ssh_key_id: id });
    expect((await call('DELETE', `/secrets/${id}`)).status).toBe(200);
    expect((await call('GET', `/secrets/${id}`)).status).toBe(404);
    expect((await call('POST', '/secrets', { data: { type: 'secret' } })).body).toMatchObject([
      { path: ['data', 'attributes'] },
    ]);
  });

  it('tells whoever watches machines what the renter’s commands would have run', async () => {
    running.length = 0;
    const script = Buffer.from('echo agent').toString('base64');
    const runcmd = [
      `echo '${KEY}' > /root/.ssh/authorized_keys`,
      `echo ${Buffer.from("export TOKEN='a b'\n").toString('base64')} | base64 -d > /etc/env.sh`,
      `echo ${script} | base64 --decode > /opt/start.sh`,
      'bash /opt/start.sh',
    ];
    const id = await rent({ cloud_init: { runcmd } });
    await sandbox.advance(600_000);
    expect(running).toMatchObject([
      { provider: 'tensordock', instanceId: id, startupScript: 'echo agent', env: { TOKEN: 'a b' }, boot: 1 },
    ]);
  });
});

describe('a purchase that is malformed or not known', () => {
  const resources = (changes: Json) => ({
    resources: { vcpu_count: 8, ram_gb: 32, storage_gb: 200, gpus: { [V0_NAME]: { count: 1 } }, ...changes },
  });

  it.each<[string, Json, string[]]>([
    ['no resources', { resources: undefined }, ['data', 'attributes', 'resources']],
    ['an odd number of processors', resources({ vcpu_count: 7 }), ['data', 'attributes', 'resources', 'vcpu_count']],
    ['a memory size that is not sold', resources({ ram_gb: 33 }), ['data', 'attributes', 'resources', 'ram_gb']],
    ['less than 100 GB', resources({ storage_gb: 99 }), ['data', 'attributes', 'resources', 'storage_gb']],
    ['both places', { location_id: '1a779525-4c04-4f2c-aa45-58b47d54bb38' }, ['data', 'attributes']],
    ['no place', { hostnode_id: undefined }, ['data', 'attributes']],
    ['no key', { ssh_key: undefined }, ['data', 'attributes', 'ssh_key']],
    ['port 22 not forwarded', { port_forwards: [] }, ['data', 'attributes', 'port_forwards']],
    ['an image of somebody else', { image: 'pytorch/pytorch' }, ['data', 'attributes', 'image']],
    ['a field that there is not', { label: 'x' }, ['data', 'attributes']],
    ['a field in another case', { use_dedicated_ip: true }, ['data', 'attributes']],
    [
      'an encoded file',
      { cloud_init: { write_files: [{ path: '/a', content: 'eA==', encoding: 'b64' }] } },
      ['data', 'attributes', 'cloud_init', 'write_files', '0'],
    ],
  ])('is refused with a validation array: %s', async (_what, attributes, path) => {
    const answer = await call('POST', '/instances', await order(attributes));
    expect(answer.status).toBe(400);
    const issues = answer.body as unknown as Issue[];
    expect(issues[0]).toMatchObject({ code: expect.any(String), message: expect.any(String) });
    expect(issues.map((issue) => issue.path.map(String))).toContainEqual(path);
    expect(sandbox.state().tensordock.purchases['vm-a']).toMatchObject({ calls: 1, accepted: 0, refused: 1 });
  });

  it('is refused so for a body that is no object', async () => {
    const answer = await call('POST', '/instances', [1]);
    expect(answer).toMatchObject({ status: 400, body: [{ code: 'invalid_type', path: [] }] });
  });

  it('may leave the forward out with an address of its own', async () => {
    await rent({ port_forwards: undefined, useDedicatedIp: true });
  });
});

describe('the switches', () => {
  it('limit the organisation to 100 calls a minute, and tell how the limit stands', async () => {
    sandbox.setSwitches('tensordock', { rateLimits: 'documented' });
    const first = await call('GET', '/secrets');
    expect(first.headers.get('x-ratelimit-remaining')).toBe('99');
    for (let i = 1; i < 100; i++) await call('GET', '/secrets');
    const refused = await call('GET', '/instances');
    expect(refused).toMatchObject({ status: 429, body: { error: 'Too many requests' } });
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    sandbox.setSwitches('tensordock', { hasRateLimitHeaders: false });
    expect((await call('GET', '/instances')).headers.get('retry-after')).toBeNull();
    await sandbox.advance(61_000);
    expect((await call('GET', '/instances')).status).toBe(200);
  });

  it('release the GPU of a stopped machine for others, so that it cannot come back', async () => {
    sandbox.setSwitches('tensordock', { stopKeepsGpu: false });
    const id = await rent({ useDedicatedIp: true });
    await sandbox.advance(600_000);
    await call('POST', `/instances/${id}/stop`);
    await sandbox.advance(60_000);
    expect((await call('GET', `/instances/${id}`)).body).toMatchObject({
      status: 'stoppeddisassociated',
      resources: { gpus: {} },
      rateHourly: 0.01,
    });
    expect((await call('POST', `/instances/${id}/stop`)).body).toEqual({
      error: 'Machine is stoppeddisassociated, therefore it cannot be stopped',
    });
    sandbox.setSwitches('tensordock', { drought: ['RTX 4090'] });
    expect(await call('POST', `/instances/${id}/start`)).toMatchObject({ status: 400 });
    sandbox.setSwitches('tensordock', { drought: [] });
    expect((await call('POST', `/instances/${id}/start`)).body).toEqual({
      data: { type: 'instance', id, attributes: { status: 'starting' } },
    });
  });

  it('show no GPU on an image without driver', async () => {
    running.length = 0;
    await rent({ image: 'ubuntu2404' });
    await sandbox.advance(600_000);
    expect(running).toMatchObject([{ gpus: { count: 0 } }]);
  });

  it('lose a host: the machine is an error that bills nothing', async () => {
    const id = await rent();
    await sandbox.advance(600_000);
    await sandbox.addFault({
      provider: 'tensordock',
      endpoint: 'machine',
      kind: 'host_loss',
      match: { instanceId: id },
    });
    await sandbox.advance(1_000);
    expect((await call('GET', `/instances/${id}`)).body).toMatchObject({ status: 'error', rateHourly: 0 });
  });
});
