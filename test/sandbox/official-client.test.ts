/** The vendor's own CLI and SDK use the sandbox's Vast.ai without noticing. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, onTestFinished, type TestContext } from 'vitest';
import { installOfficialClient, type OfficialClient } from './official-client.ts';
import type { CommandOutput } from './python-tool.ts';
import { BOOTED_MS, type Json, startVendor, type Vendor } from './vendor.ts';

const INSTALL_TIMEOUT_MS = 480_000;
const CLIENT_TIMEOUT_MS = 180_000;
const PUBLIC_KEY = `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${'A'.repeat(43)} person@home`;

let installed: OfficialClient | { missing: string };
let home: string;
let vendor: Vendor;
beforeAll(async () => {
  installed = await installOfficialClient();
  if ('missing' in installed) console.warn(`The tests with the vendor's own client are skipped: ${installed.missing}`);
  home = mkdtempSync(join(tmpdir(), 'vastai-home-'));
}, INSTALL_TIMEOUT_MS);
afterAll(() => rmSync(home, { recursive: true }));
beforeEach(async () => {
  vendor = await startVendor({ offers: 120 });
});
afterEach(() => vendor.close());

it(
  'the CLI searches, rents, lists, labels, stops, starts and destroys',
  { timeout: CLIENT_TIMEOUT_MS },
  async (context) => {
    const cli = useCli(context);
    const query = 'gpu_name=RTX_4090 num_gpus=1 reliability>0.9 geolocation in [SE,US,DE,FR,CA,NL] dph<0.9 duration>2';
    const offers = readJson(
      await cli('search', 'offers', query, '-o', 'dph+', '--limit', '5', '--storage', '20', '--raw'),
    ) as Json[];
    expect(offers.length).toBeGreaterThan(0);
    expect(offers.every((offer) => offer['gpu_name'] === 'RTX 4090' && Number(offer['dph_total']) < 0.9)).toBe(true);

    const order = ['--image', 'pytorch/pytorch', '--disk', '20', '--ssh', '--direct', '--label', 'by-cli'];
    const offerId = String(offers[0]!['id']);
    const created = readJson(
      await cli('create', 'instance', offerId, ...order, '--env', '-e A=b -p 8000:8000', '--raw'),
    ) as Json;
    expect(created).toMatchObject({ success: true });
    const id = String(created['new_contract']);
    const lost = readJson(await cli('create', 'instance', offerId, ...order, '--raw')) as Json;
    expect(lost).toMatchObject({ error: true, status_code: 410 });

    await vendor.advance(BOOTED_MS);
    const instances = readJson(await cli('show', 'instances', '--raw')) as Json[];
    expect(instances).toHaveLength(4);
    const shown = instances.find((instance) => String(instance['id']) === id)!;
    expect(shown).toMatchObject({
      label: 'by-cli',
      actual_status: 'running',
      extra_env: { A: 'b', '-p 8000:8000': '1' },
    });
    expect((await cli('show', 'instances')).stdout).toContain('by-cli');
    expect((await cli('show', 'instance', id)).stdout).toContain('running');
    const port = (shown['ports'] as Record<string, { HostPort: string }[]>)['22/tcp']![0]!.HostPort;
    expect((await cli('ssh-url', id)).stdout.trim()).toBe(`ssh://root@127.0.0.1:${port}`);

    await cli('label', 'instance', id, 'renamed');
    await cli('stop', 'instance', id);
    await vendor.advance(BOOTED_MS);
    expect(await vendor.read(Number(id))).toMatchObject({ label: 'renamed', actual_status: 'stopped' });
    await cli('start', 'instance', id);
    await vendor.advance(BOOTED_MS);
    expect(await vendor.read(Number(id))).toMatchObject({ actual_status: 'running' });
    expect((await cli('logs', id)).stdout).toContain(id);

    expect((await cli('destroy', 'instance', id, '-y')).stdout).toContain(`destroying instance ${id}`);
    expect(await vendor.read(Number(id))).toBeNull();
    const again = await cli('destroy', 'instance', id, '-y');
    expect(again.stderr).toContain(`Failed with error 404: Instance ${id} not found.`);
  },
);

it('the CLI bids, and manages SSH keys', { timeout: CLIENT_TIMEOUT_MS }, async (context) => {
  const cli = useCli(context);
  const query = ['num_gpus=1', '--type', 'bid', '-o', 'min_bid+', '--limit', '1'];
  const offers = readJson(await cli('search', 'offers', ...query, '--raw')) as Json[];
  const floor = Number(offers[0]!['min_bid']);
  const order = ['--image', 'a/b', '--bid_price', String(floor)];
  const created = readJson(await cli('create', 'instance', String(offers[0]!['id']), ...order, '--raw')) as Json;
  const id = Number(created['new_contract']);
  expect(await vendor.read(id)).toMatchObject({ is_bid: true, dph_base: floor });
  await cli('change', 'bid', String(id), '--price', '0.9');
  expect(await vendor.read(id)).toMatchObject({ dph_base: 0.9 });

  await cli('create', 'ssh-key', PUBLIC_KEY, '-y');
  const keys = readJson(await cli('show', 'ssh-keys', '--raw')) as Json[];
  expect(keys).toMatchObject([{ public_key: PUBLIC_KEY }]);
  await cli('attach', 'ssh', String(id), PUBLIC_KEY);
  const attached = await vendor.call('GET', `/api/v0/instances/${id}/ssh/`);
  expect(attached.body['ssh_keys']).toMatchObject([{ public_key: PUBLIC_KEY }]);
  await cli('delete', 'ssh-key', String(keys[0]!['id']));
  expect(readJson(await cli('show', 'ssh-keys', '--raw'))).toEqual([]);
  expect(readJson(await cli('show', 'user', '--raw'))).toMatchObject({ id: 4242 });
});

it(
  'the SDK searches, rents, shows and destroys, and raises on a lost race',
  { timeout: CLIENT_TIMEOUT_MS },
  async (context) => {
    if ('missing' in installed) return context.skip(installed.missing);
    const output = await installed.python(home, SDK_PROGRAM, [vendor.urls.vastai]);
    expect(output.stderr).toBe('');
    const seen = JSON.parse(output.stdout.trim().split('\n').at(-1)!) as Json;
    expect(seen).toMatchObject({ label: 'by-sdk', gpu: 'RTX 4090', race: 410, gone: null });
    const own = vendor.state().vastai.machines.filter(({ label }) => label === 'by-sdk');
    expect(own).toHaveLength(1);
    expect(own[0]!.destroyedAtMs).not.toBeNull();
  },
);

const SDK_PROGRAM = `
import json, sys, requests
from vastai import VastAI
vast = VastAI(api_key="sandbox", server_url=sys.argv[1])
offer = vast.search_offers(query="gpu_name=RTX_4090 num_gpus=1", order="dph_total", limit=1)[0]
created = vast.create_instance(id=offer["id"], image="pytorch/pytorch", disk=20, label="by-sdk", ssh=True, direct=True)
shown = vast.show_instance(id=created["new_contract"])
race = None
try:
    vast.create_instance(id=offer["id"], image="pytorch/pytorch", disk=20, label="by-sdk")
except requests.exceptions.HTTPError as error:
    race = error.response.status_code
vast.destroy_instance(id=created["new_contract"])
gone = vast.show_instance(id=created["new_contract"])
print(json.dumps({"label": shown["label"], "gpu": shown["gpu_name"], "race": race, "gone": gone}))
`;

/** The CLI against this test's sandbox; ends the test as skipped, with the reason, where it cannot be had. */
function useCli(context: TestContext): (...args: string[]) => Promise<CommandOutput> {
  const client = installed;
  if ('missing' in client) context.skip(client.missing);
  const cli = client.openCli(vendor.urls.vastai, home);
  onTestFinished(() => cli.close());
  return cli.run;
}

/** The client prints answers on standard output and the vendor's refusals on standard error. */
function readJson({ stdout, stderr }: CommandOutput): unknown {
  try {
    return JSON.parse(stdout === '' ? stderr : stdout);
  } catch {
    throw new Error(`no JSON: ${stdout}\n${stderr}`);
  }
}
