import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { REQUIRED_TAGS } from '../../domain/stack-tags.ts';
import { makeEksGpuNode, makeGaudiNode, makeSystemNode } from '../../sandbox/kubernetes-api/nodes.ts';
import { startClusterServer, type ClusterServer } from '../support/cluster-server.ts';
import { makeStep } from '../support/scripted-stack-runner.ts';
import { makeHome, runMuster, type Home } from './run-muster.ts';

let server: ClusterServer;
let home: Home;
let key: string;
let folder: string;
beforeAll(async () => {
  server = await startClusterServer();
  ({ key } = await server.makeKey('operator'));
  home = makeHome();
  folder = mkdtempSync(join(tmpdir(), 'muster-clusters-'));
});
afterAll(async () => {
  home.remove();
  rmSync(folder, { recursive: true });
  await server.stop();
});

const run = (...args: string[]) =>
  runMuster(home, ['clusters', ...args], { env: { MUSTER_API_KEY: key, MUSTER_URL: server.url } });

function writeKubeconfig(name: string, token?: string): string {
  const file = join(folder, `${name}.json`);
  writeFileSync(file, server.kubernetes.kubeconfigOf(name, token));
  return file;
}

describe('muster clusters', () => {
  it('registers a cluster and shows it, its nodes and its kubeconfig', async () => {
    server.simulate('prod', {
      nodes: [makeSystemNode('sys'), makeEksGpuNode('gpu', { isReady: false }), makeGaudiNode('hpu')],
    });
    const registered = await run('register', '--name', 'prod', '--kubeconfig', writeKubeconfig('prod'));
    expect(registered.code, registered.stderr).toBe(0);
    expect(registered.stdout).toMatch(/registered prod {2}degraded/);
    expect(registered.stdout).toMatch(/nodes +2 of 3 ready; 8x hpu, 1x NVIDIA-A10G GPUs/);
    const id = /clu_[a-z2-7]{16}/.exec(registered.stdout)?.[0] as string;
    const [list, nodes, health, kubeconfig] = await Promise.all([
      run('list'),
      run('nodes', id),
      run('health', id),
      run('kubeconfig', id),
    ]);
    expect(list.stdout).toMatch(/prod +registered +degraded +eks +1\.34\.1 +2\/3/);
    expect(nodes.stdout).toMatch(
      /gpu +no +cuda +NVIDIA-A10G +1 +23028 +570\.133\.20 .* Kubelet stopped posting node status/,
    );
    expect(nodes.stdout).toMatch(/hpu +yes +hpu +- +8/);
    expect(health.stdout).toMatch(/status +degraded: 1 of 3 nodes not ready \(gpu\)/);
    expect(JSON.parse(kubeconfig.stdout).users[0].user.token).toBe('sandbox');
    expect(await run('stop', id, '--yes')).toMatchObject({ code: 1, stdout: '' });
    const enrolled = await run('enrol', id);
    expect(enrolled.stdout).toMatch(/^mn_[\w-]{43}\n$/);
    expect(enrolled.stderr).toContain('For muster/muster-agent');
    expect(await run('revoke-enrolment', id)).toMatchObject({ code: 0 });
    const forgotten = await run('delete', id, '--yes');
    expect(forgotten.stdout).toContain('prod is forgotten; nothing at it has changed.');
  });

  it('says why a kubeconfig is not taken, and ends with 1', async () => {
    server.simulate('strange');
    const { code, stderr } = await run(
      'register',
      '--name',
      'strange',
      '--kubeconfig',
      writeKubeconfig('strange', 'wrong'),
    );
    expect(code).not.toBe(0);
    expect(stderr).toContain('refuses our credential');
    expect(stderr).not.toContain('wrong');
  });

  it('shows the plan with its price before it makes anything, and makes exactly that', async () => {
    const tags = Object.fromEntries(REQUIRED_TAGS.map((tag) => [tag, 'x']));
    server.runner.steps = [makeStep('aws:ec2/natGateway:NatGateway', 'nat', 'create', { tags })];
    const create = [
      'create',
      '--name',
      'train',
      '--kind',
      'eks',
      '--place',
      'eu-west-1',
      '--node-group',
      'g5.xlarge:0-4:spot',
    ];
    const plan = await run(...create, '--dry-run');
    expect(plan.stdout).toMatch(/create +nat +aws:ec2\/natGateway:NatGateway +- +\$0\.048/);
    expect(plan.stdout).toContain('$0.048 an hour in all (+$0.048), $34.56 in 30 days.');
    expect(await run(...create)).toMatchObject({ code: 2 });
    expect(server.runner.ran.map(({ update }) => update)).not.toContain('up');
    const made = await run(...create, '--yes', '--watch');
    expect(made.code, made.stderr).toBe(0);
    expect(server.runner.ran.map(({ update }) => update)).toContain('up');
    const [cluster] = JSON.parse((await run('list', '--json')).stdout).items;
    expect(cluster).toMatchObject({ name: 'train', kind: 'eks' });
  });

  it('shows what a change would cost before it is made, and asks', async () => {
    const { body: list } = await server.call('GET', '/api/v1/clusters?kind=eks', { key });
    server.runner.ran = [];
    const scale = ['scale', list.items[0].id, '--node-group', 'gpu-1', '--max', '9'];
    const [shown, asked] = await Promise.all([run(...scale, '--dry-run'), run(...scale)]);
    expect(shown).toMatchObject({ code: 0, stdout: expect.stringContaining('$0.048 an hour in all') as string });
    expect(asked).toMatchObject({ code: 2 });
    expect(server.runner.ran.map(({ update }) => update)).toEqual(['preview', 'preview']);
    const scaled = await run(...scale, '--yes');
    expect(scaled.stdout).toMatch(/train is accepted as op_/);
  });

  it('refuses what it cannot read before it asks', async () => {
    const create = ['create', '--name', 'x', '--place', 'eu-west-1'];
    expect((await run(...create, '--kind', 'gke')).stderr).toContain('eks, aks and onprem');
    expect((await run('create', '--name', 'x', '--kind', 'onprem')).stderr).toContain('hosts and k3s');
    expect((await run(...create, '--kind', 'eks', '--node-group', 'g5.xlarge')).stderr).toContain('g5.xlarge:0-4:spot');
  });
});
