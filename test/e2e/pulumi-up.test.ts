/**
 * Plain `pulumi`, without the control plane: the real engine on the project's own directory, with the stock plugin process for
 * dynamic providers, against the sandbox and the simulated clouds.
 */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { locateEngine } from '../../engine/locate.ts';
import { startSimulatedClouds, type SimulatedClouds } from '../../sandbox/pulumi/clouds.ts';
import { startSandbox, type Sandbox } from '../../sandbox/server.ts';
import { startLanguageHost, type LanguageHost } from '../support/language-host.ts';
import { sshdMissing, startSshd } from '../support/sshd.ts';

const PROJECT = join(import.meta.dirname, '..', '..');
const SECRET = 'env-value-that-stays-secret';
/** Without the preview that comes before by itself: it runs the whole program and its plugins a second time. */
const AT_ONCE = ['--yes', '--skip-preview'];
const run = promisify(execFile);

let folder: string;
let sandbox: Sandbox;
let languageHost: LanguageHost;
let clouds: SimulatedClouds;
let environment: NodeJS.ProcessEnv;

beforeAll(async () => {
  const tried: string[] = [];
  const engine = await locateEngine({ env: process.env }, tried);
  if (!engine) throw new Error(`no engine: ${tried.join('; ')}`);
  folder = await mkdtemp(join(tmpdir(), 'muster-up-'));
  await makeProject(engine.path);
  sandbox = await startSandbox({ dir: null, port: 0 });
  languageHost = await startLanguageHost();
  clouds = await startSimulatedClouds({ dir: null, timings: 'none' });
  await mkdir(join(folder, 'state'));
  const { NODE_COMPILE_CACHE } = process.env;
  environment = {
    PATH: [join(folder, 'bin'), dirname(process.execPath), '/usr/bin', '/bin'].join(delimiter),
    HOME: folder,
    PULUMI_HOME: join(folder, 'home'),
    PULUMI_BACKEND_URL: `file://${join(folder, 'state')}`,
    PULUMI_CONFIG_PASSPHRASE: 'test',
    PULUMI_SKIP_UPDATE_CHECK: 'true',
    PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: 'true',
    PULUMI_OPTION_SKIP_PLUGIN_PRE_INSTALL: 'true',
    PULUMI_DIY_BACKEND_NO_LEGACY_WARNING: '1',
    PULUMI_DEBUG_LANGUAGES: `nodejs:${languageHost.port}`,
    PULUMI_DEBUG_PROVIDERS: Object.entries(clouds.ports)
      .map(([name, port]) => `${name}:${port}`)
      .join(','),
    MUSTER_VASTAI_URL: sandbox.urls.vastai,
    ...(NODE_COMPILE_CACHE ? { NODE_COMPILE_CACHE } : {}),
  };
});

afterAll(async () => {
  languageHost?.close();
  clouds?.close();
  await sandbox?.close();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** As a clone has it: our files, the packages, and beside the engine the plugin that the npm package brings. */
async function makeProject(enginePath: string): Promise<void> {
  for (const part of ['Pulumi.yaml', 'package.json', 'stacks', 'components', 'providers-dynamic', 'domain']) {
    await cp(join(PROJECT, part), join(folder, 'project', part), { recursive: true });
  }
  await symlink(join(PROJECT, 'node_modules'), join(folder, 'project', 'node_modules'));
  await mkdir(join(folder, 'bin'));
  await symlink(enginePath, join(folder, 'bin', 'pulumi'));
  const plugin = 'pulumi-resource-pulumi-nodejs';
  await symlink(join(PROJECT, 'node_modules', '@pulumi', 'pulumi', plugin), join(folder, 'bin', plugin));
}

async function pulumi(...args: string[]): Promise<string> {
  const options = { cwd: join(folder, 'project'), env: environment, maxBuffer: 16 * 1024 * 1024 };
  const { stdout } = await run(
    join(folder, 'bin', 'pulumi'),
    [...args, '--non-interactive', '--color', 'never'],
    options,
  ).catch((error: Error & { stdout?: string; stderr?: string }) => {
    throw new Error(`pulumi ${args.join(' ')} failed:\n${error.stdout}\n${error.stderr}`);
  });
  return stdout;
}

function ownMachines() {
  return sandbox.state().vastai.machines.filter((machine) => machine.label.startsWith('muster-ext-'));
}

describe('pulumi up on the directory', () => {
  it('refuses a wrong configuration and names each problem', async () => {
    await pulumi('stack', 'init', 'wrong');
    await pulumi('config', 'set-all', '--plaintext', 'muster:kind=instance', '--plaintext', 'muster:gpus=2');
    await expect(pulumi('preview')).rejects.toThrow(/muster:gpu: .*[\s\S]*muster:maxPriceUsdPerHour: /);
  });

  it('previews without buying, buys once, changes nothing the second time, and destroys verified', async () => {
    await pulumi('stack', 'init', 'dev');
    const wanted = ['kind=instance', 'gpu=rtx_4090', 'maxPriceUsdPerHour=1.50', 'count=2'];
    const plaintext = wanted.flatMap((setting) => ['--plaintext', `muster:${setting}`]);
    await pulumi('config', 'set-all', ...plaintext, '--secret', `muster:env=${JSON.stringify({ TOKEN: SECRET })}`);

    expect(await pulumi('preview')).toMatch(/\+ 3 to create/);
    expect(ownMachines()).toEqual([]);

    expect(await pulumi('up', '--yes')).toMatch(/\+ 3 created/); // with its preview, as a person sees it
    const machines = ownMachines();
    expect(machines.map((machine) => machine.gpuName)).toEqual(['RTX 4090', 'RTX 4090']);
    expect(new Set(machines.map((machine) => machine.machineId)).size).toBe(2);
    const outputs = JSON.parse(await pulumi('stack', 'output', '--json')) as Record<
      string,
      { providerInstanceId: string }
    >;
    const ids = Object.values(outputs).map((output) => Number(output.providerInstanceId));
    expect(new Set(ids)).toEqual(new Set(machines.map((machine) => machine.id)));

    expect(await pulumi('up', ...AT_ONCE)).toMatch(/3 unchanged/);
    expect(await pulumi('refresh', ...AT_ONCE)).not.toMatch(/deleted/);
    const state = await readFile(join(folder, 'state/.pulumi/stacks/muster/dev.json'), 'utf8');
    expect(state).not.toContain(SECRET);

    expect(await pulumi('destroy', ...AT_ONCE)).toMatch(/- 3 deleted/);
    expect(ownMachines().map((machine) => machine.destroyedAtMs)).toEqual([expect.any(Number), expect.any(Number)]);
    expect(Object.values(sandbox.state().vastai.purchases).map((purchase) => purchase.accepted)).toEqual([1, 1]);
  });
});

describe.skipIf(sshdMissing !== null)('pulumi up with a host of our own', () => {
  it('looks at it by the key in the environment, changes nothing the second time, and keeps no key', async () => {
    const host = await startSshd({ user: 'no_sudo' });
    try {
      const keyFile = join(folder, 'host-key');
      await writeFile(keyFile, host.privateKey, { mode: 0o600 });
      environment['MUSTER_SSH_PRIVATE_KEY_FILE'] = keyFile;
      const example = await readFile(join(PROJECT, 'Pulumi.onprem-node.example.yaml'), 'utf8');
      const given = { address: host.address, port: host.port, user: host.user, hostKeySha256: host.hostKeySha256 };
      const config = Object.entries(given).reduce(
        (text, [name, value]) => text.replace(new RegExp(`muster:${name}: .*`), `muster:${name}: ${value}`),
        example,
      );
      await pulumi('stack', 'init', 'box');
      await writeFile(join(folder, 'project', 'Pulumi.box.yaml'), config);
      expect(await pulumi('up', ...AT_ONCE)).toMatch(/created/);
      const outputs = JSON.parse(await pulumi('stack', 'output', '--json')) as Record<string, unknown>;
      expect(outputs).toMatchObject({ agentState: 'not_managed', nodeId: null, facts: { architecture: 'x86_64' } });
      expect(await pulumi('up', ...AT_ONCE)).toMatch(/unchanged/);
      expect(await pulumi('refresh', ...AT_ONCE)).toMatch(/unchanged/);
      const state = await readFile(join(folder, 'state/.pulumi/stacks/muster/box.json'), 'utf8');
      expect(state).not.toContain(host.privateKey.split('\n')[2]);
      expect(await pulumi('destroy', ...AT_ONCE)).toMatch(/deleted/);
    } finally {
      await host.close();
    }
  });
});

describe('pulumi up with the example of a cluster', () => {
  const copyExample = async (change: (text: string) => string) => {
    const text = await readFile(join(PROJECT, 'Pulumi.eks.example.yaml'), 'utf8');
    await writeFile(join(folder, 'project', 'Pulumi.train.yaml'), change(text));
  };
  const unprotect = (text: string) => text.replace('muster:protect: true', 'muster:protect: false');

  it('refuses what breaks a policy or a rule in the preview, with a clear message, and makes nothing', async () => {
    await pulumi('stack', 'init', 'train');
    await copyExample((text) => text.replace("ceilingUsdPerHour: '12.00'", "ceilingUsdPerHour: '0.10'"));
    await expect(pulumi('preview')).rejects.toThrow(/costs \$\S+ per hour, above the stack's ceiling of \$0\.10/);
    await copyExample((text) => text.replace('vpcCidr: 10.60.0.0/16', 'vpcCidr: 172.20.0.0/16'));
    await expect(pulumi('preview')).rejects.toThrow(/muster:serviceCidr: 172\.20\.0\.0\/16 overlaps vpcCidr/);
    expect(clouds.state().resources).toEqual([]);
  });

  it('makes the cluster, changes nothing the second time, shows no kubeconfig, and destroys it', async () => {
    await copyExample(unprotect);
    expect(await pulumi('up', ...AT_ONCE)).toMatch(/created/);
    expect(clouds.resources('Cluster').map(({ properties }) => properties.name)).toEqual(['train']);
    expect(await pulumi('up', ...AT_ONCE)).toMatch(/unchanged/);
    const outputs = JSON.parse(await pulumi('stack', 'output', '--json')) as Record<string, string>;
    expect(outputs).toMatchObject({ clusterName: 'train', kubeconfig: '[secret]' });
    expect(await pulumi('destroy', ...AT_ONCE)).toMatch(/deleted/);
    expect(clouds.state().resources).toEqual([]);
  });
});
