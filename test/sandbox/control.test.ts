import { request } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startVendor, type Vendor } from './vendor.ts';

let vendor: Vendor;
beforeEach(async () => {
  vendor = await startVendor();
});
afterEach(() => vendor.close());

describe('the admin routes', () => {
  it.each<[string, string, unknown, string]>([
    ['an unknown field', '/__sandbox/faults', { provider: 'vastai', endpoint: 'list', kind: 'empty', tmes: 1 }, 'tmes'],
    [
      'an unknown kind',
      '/__sandbox/faults',
      { provider: 'vastai', endpoint: 'list', kind: 'explode' },
      'lose_response',
    ],
    ['an unknown endpoint', '/__sandbox/faults', { provider: 'vastai', endpoint: 'lst', kind: 'empty' }, 'create'],
    [
      'a machine fault on a call',
      '/__sandbox/faults',
      { provider: 'vastai', endpoint: 'list', kind: 'outbid' },
      'machine',
    ],
    ['an unknown provider', '/__sandbox/faults', { provider: 'aws', endpoint: 'list', kind: 'empty' }, 'vastai'],
    [
      'a probability of 2',
      '/__sandbox/faults',
      { provider: 'vastai', endpoint: 'list', kind: 'empty', probability: 2 },
      'probability',
    ],
    ['time that runs backwards', '/__sandbox/clock', { advanceMs: -1 }, 'advanceMs'],
    ['an unknown switch', '/__sandbox/switches', { provider: 'vastai', rateLimit: 'off' }, 'rateLimit'],
    ['a switch out of range', '/__sandbox/switches', { provider: 'vastai', raceStatus: 500 }, 'raceStatus'],
    ['a machine without a label', '/__sandbox/machines', { provider: 'vastai' }, 'label'],
    ['a reset with wishes', '/__sandbox/reset', { keep: 'machines' }, 'keep'],
    [
      'GPUs that are busier than busy',
      '/__sandbox/agents',
      { provider: 'vastai', instanceId: 1, gpuPercent: 101 },
      'gpuPercent',
    ],
    ['no body at all', '/__sandbox/clock', undefined, 'expected object'],
  ])('refuse %s with 422 and say what is wrong', async (_name, path, body, said) => {
    const before = vendor.state();
    const answer = await vendor.admin('POST', path, body);
    expect(answer.status).toBe(422);
    expect(answer.text).toContain(said);
    expect(vendor.state()).toEqual(before);
    expect(vendor.listFaults()).toEqual([]);
  });

  it('know their paths and methods', async () => {
    expect((await vendor.admin('GET', '/__sandbox/nothing')).status).toBe(404);
    expect((await vendor.admin('GET', '/__sandbox/agents')).body).toEqual({ agents: [] });
    const agent = { provider: 'vastai', instanceId: 1, isPartitioned: true };
    expect((await vendor.admin('POST', '/__sandbox/agents', agent)).status).toBe(404);
    expect((await vendor.admin('PUT', '/__sandbox/faults', {})).status).toBe(405);
    expect((await vendor.admin('DELETE', '/__sandbox/faults/fault-9')).status).toBe(404);
  });

  it('switch faults on and off', async () => {
    const fault = { provider: 'vastai', endpoint: 'list', kind: 'empty', times: 3 };
    const added = await vendor.admin('POST', '/__sandbox/faults', fault);
    expect(added.status).toBe(201);
    expect(added.body).toMatchObject({ ...fault, hits: 0 });
    await vendor.call('GET', '/api/v1/instances/');
    const listed = await vendor.admin('GET', '/__sandbox/faults');
    expect(listed.body['faults']).toMatchObject([{ id: added.body['id'], hits: 1 }]);
    expect((await vendor.admin('DELETE', `/__sandbox/faults/${String(added.body['id'])}`)).status).toBe(200);
    await vendor.admin('POST', '/__sandbox/faults', fault);
    await vendor.admin('DELETE', '/__sandbox/faults');
    expect((await vendor.admin('GET', '/__sandbox/faults')).body['faults']).toEqual([]);
  });

  it('move explicit time by exactly what was asked', async () => {
    const before = vendor.now();
    const moved = await vendor.admin('POST', '/__sandbox/clock', { advanceMs: 12_345 });
    expect(moved.body['nowMs']).toBe(before + 12_345);
  });

  it('make a foreign or orphan machine and show it in the state', async () => {
    const made = await vendor.admin('POST', '/__sandbox/machines', {
      provider: 'vastai',
      label: 'muster-sandbox-att_x-y',
      origin: 'orphan',
    });
    expect(made.status).toBe(201);
    const state = await vendor.admin('GET', '/__sandbox/state');
    const { machines, calls } = state.body['vastai'] as { machines: Record<string, unknown>[]; calls: unknown };
    expect(machines.at(-1)).toMatchObject({ id: made.body['id'], origin: 'orphan', actualStatus: 'running' });
    expect(calls).toEqual({});
  });

  it('change switches and leave the others as they are', async () => {
    await vendor.admin('POST', '/__sandbox/switches', { provider: 'vastai', listLagMs: 500 });
    const changed = await vendor.admin('POST', '/__sandbox/switches', { provider: 'vastai', hasIpSpace: true });
    expect(changed.body['vastai']).toMatchObject({ listLagMs: 500, hasIpSpace: true, rateLimits: 'off' });
    const id = await vendor.rent();
    expect((await vendor.read(id))['public_ipaddr']).toBe('127.0.0.1 ');
  });
});

describe('the page', () => {
  it('shows machines and what they cost, and escapes what others wrote', async () => {
    await vendor.rent({ label: '<script>alert(1)</script>' });
    const page = await vendor.admin('GET', '/');
    expect(page.contentType).toContain('text/html');
    expect(page.text).toContain('RTX 4090');
    expect(page.text).not.toContain('<script>');
    expect(page.text).toContain('&#60;script&#62;');
  });

  it('has buttons that do what the routes do', async () => {
    const pressed = await press('POST /__sandbox/faults', { provider: 'vastai', endpoint: 'list', kind: 'empty' });
    expect(pressed).toBe(303);
    expect(vendor.listFaults()).toHaveLength(1);
    expect((await vendor.admin('GET', '/')).text).toContain('All off');
    expect(await press('DELETE /__sandbox/faults', null)).toBe(303);
    expect(vendor.listFaults()).toEqual([]);
    expect(await press('POST /__sandbox/faults', { provider: 'vastai' })).toBe(422);
    expect(await press('POST /nowhere', null)).toBe(404);
  });

  it('refuses forms that another web site sends, and names that only pretend to be this machine', async () => {
    expect(await press('POST /__sandbox/reset', {}, { 'sec-fetch-site': 'cross-site' })).toBe(403);
    expect(await getWithHost('rebound.example')).toBe(403);
    expect(await getWithHost(`127.0.0.1:${vendor.ports.control}`)).toBe(200);
  });
});

async function press(action: string, body: object | null, headers: Record<string, string> = {}): Promise<number> {
  const form = new URLSearchParams({ do: action, ...(body === null ? {} : { body: JSON.stringify(body) }) });
  const response = await fetch(vendor.urls.control, { method: 'POST', body: form, headers, redirect: 'manual' });
  return response.status;
}

/** fetch would set the Host header itself. */
function getWithHost(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    request(vendor.urls.control, { headers: { host } }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    })
      .on('error', reject)
      .end();
  });
}
