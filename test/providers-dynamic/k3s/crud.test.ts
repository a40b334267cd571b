/** k3s on hosts behind Debian's own sshd. The k3s itself is a script that does what the real one does as far as a host shows it. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { PartialFailure, UNKNOWN_VALUE, type Properties } from '../../../providers-dynamic/dynamic-crud.ts';
import type { HostRuntime } from '../../../providers-dynamic/host-runtime.ts';
import { createK3sNodeCrud, K3S_TIMINGS } from '../../../providers-dynamic/k3s/crud.ts';
import { checkK3s, reachableKubeconfig } from '../../../providers-dynamic/k3s/properties.ts';

import { sshdMissing, startSshd, type SshdHost } from '../../support/sshd.ts';

const TIMINGS = { ...K3S_TIMINGS, readySeconds: 30 };

const FAKE_K3S = `#!/bin/sh
if [ "$1" = kubectl ]; then [ -s "$KUBECONFIG" ]; exit $?; fi
value() { sed -n "s/^$1: \\"\\(.*\\)\\"$/\\1/p" "$3"; }
data=$(value data-dir - "$3")
mkdir -p "$data/server" "$data/agent"
if [ "$1" = server ]; then
  echo "K10abc::server:secret-of-the-cluster" >"$data/server/node-token"
  printf 'apiVersion: v1\\nclusters:\\n- cluster:\\n    server: https://127.0.0.1:6443\\n' >"$(value write-kubeconfig - "$3")"
else
  [ "$(value token - "$3")" = "K10abc::server:secret-of-the-cluster" ] && echo x >"$data/agent/kubelet.kubeconfig"
fi
while :; do sleep 0.2; done
`;
const SHA256 = createHash('sha256').update(FAKE_K3S).digest('hex');

const hosts: SshdHost[] = [];
afterAll(async () => {
  for (const host of hosts) await host.close();
});

async function makeHost() {
  const host = await startSshd();
  hosts.push(host);
  const script = { forgotten: false };
  const runtime: HostRuntime = {
    sshPrivateKey: () => Promise.resolve(host.privateKey),
    join: () => Promise.resolve(null),
    installScript: () => Promise.reject(new Error('no agent here')),
    joinStandby: () => Promise.resolve(null),
    mayForget: () => Promise.resolve(script.forgotten),
    removed: () => Promise.resolve(),
    signal: () => new AbortController().signal,
    progress: () => {},
  };
  const artefact = join(host.dir, 'k3s-artefact');
  writeFileSync(artefact, FAKE_K3S, { mode: 0o644 });
  const installDir = join(host.dir, 'k3s');
  const dataDir = join(host.dir, 'data');
  const inputs: Properties = {
    host: 'cp-1',
    address: host.address,
    port: host.port,
    user: host.user,
    hostKeySha256: host.hostKeySha256,
    credentialRef: 'dc-key',
    role: 'server',
    artefactUrl: `file://${artefact}`,
    artefactSha256: SHA256,
    installDir,
    dataDir,
  };
  return {
    host,
    artefact,
    installDir,
    dataDir,
    inputs,
    script,
    id: `127.0.0.1:${host.port}`,
    crud: createK3sNodeCrud(runtime, TIMINGS),
  };
}

const failureOf = (work: Promise<unknown>): Promise<Error & { kind?: string }> =>
  work.then(
    () => Promise.reject(new Error('it did not fail')),
    (error: Error) => error,
  );

describe.skipIf(sshdMissing !== null).concurrent('k3s on hosts of ours', { timeout: 60_000 }, () => {
  it('is a server and an agent that joins it; left alone the second time; gone without a rest', async () => {
    const server = await makeHost();
    const made = (await server.crud.create(server.inputs)).outs;
    expect(made).toMatchObject({
      state: 'running',
      url: 'https://127.0.0.1:6443',
      nodeToken: 'K10abc::server:secret-of-the-cluster',
      kubeconfig: expect.stringContaining('server: https://127.0.0.1:6443'),
      binarySha256: SHA256,
    });
    expect((await server.crud.diff(server.id, made, server.inputs)).changed).toEqual([]);
    const { props } = await server.crud.read(server.id, made);
    expect(props).toEqual(made);
    const keeper = readFileSync(join(server.installDir, 'keeper.pid'), 'utf8');
    expect((await server.crud.update(server.id, made, server.inputs)).outs).toEqual(made);
    expect(readFileSync(join(server.installDir, 'keeper.pid'), 'utf8')).toBe(keeper);

    const agent = await makeHost();
    const inputs = { ...agent.inputs, host: 'w-1', role: 'agent', serverUrl: made['url'], token: made['nodeToken'] };
    const joined = (await agent.crud.create(inputs)).outs;
    expect(joined).toMatchObject({ state: 'running', nodeToken: null, kubeconfig: null });
    expect(statSync(join(agent.installDir, 'config.yaml')).mode & 0o777).toBe(0o600);
    const argv = execFileSync('ps', ['-eo', 'args='], { encoding: 'utf8' });
    expect(argv).not.toContain('secret-of-the-cluster');

    await agent.crud.delete(agent.id, joined);
    await server.crud.delete(server.id, made);
    for (const { host, installDir, dataDir } of [server, agent]) {
      expect([existsSync(installDir), existsSync(dataDir)]).toEqual([false, false]);
      expect(readdirSync(host.dir)).toEqual(['k3s-artefact']);
      expect(execFileSync('ps', ['-eo', 'args='], { encoding: 'utf8' })).not.toContain(`${host.dir}/k3s/`);
    }
    await server.crud.delete(server.id, made);
  });

  it('drifts when an outside hand stops it, changes its binary or its configuration, and is healed', async () => {
    const { crud, inputs, id, installDir, host } = await makeHost();
    const { outs } = await crud.create(inputs);
    execFileSync('sh', ['-c', `pkill -9 -f "$0/k3s/"`, host.dir]);
    writeFileSync(join(installDir, 'config.yaml'), 'other: "value"\n');
    const seen = (await crud.read(id, outs)).props as Properties;
    expect(seen).toMatchObject({ state: 'stopped', nodeToken: outs['nodeToken'] });
    expect((await crud.diff(id, seen, inputs)).changed).toEqual(['state', 'configSha256']);
    expect((await crud.update(id, seen, inputs)).outs).toEqual(outs);
  });

  it('is not run where the artefact has another checksum', async () => {
    const { crud, inputs, installDir, id, dataDir } = await makeHost();
    const failure = await failureOf(crud.create({ ...inputs, artefactSha256: 'a'.repeat(64) }));
    expect(failure).toBeInstanceOf(PartialFailure);
    expect(failure.message).toContain(`has the checksum ${SHA256} instead of ${'a'.repeat(64)}`);
    expect(existsSync(join(installDir, 'k3s'))).toBe(false);
    const state = (failure as PartialFailure).properties;
    expect((await crud.update(id, state, inputs)).outs).toMatchObject({ state: 'running' });
    await crud.delete(id, inputs);
    expect([existsSync(installDir), existsSync(dataDir)]).toEqual([false, false]);
  });

  it('leaves a cluster that is not ours alone', async () => {
    const { crud, inputs, dataDir, id } = await makeHost();
    mkdirSync(dataDir);
    writeFileSync(join(dataDir, 'state.db'), "somebody's");
    expect((await failureOf(crud.create(inputs))).message).toContain('a cluster that is not ours');
    await crud.delete(id, inputs);
    expect(existsSync(join(dataDir, 'state.db'))).toBe(true);
  });

  it('on a host that is down is not taken for gone, until a person says so', async () => {
    const { crud, inputs, host, script, id } = await makeHost();
    const { outs } = await crud.create(inputs);
    await host.kill();
    expect(await failureOf(crud.delete(id, outs))).toMatchObject({ kind: 'retryable' });
    script.forgotten = true;
    await crud.delete(id, outs);
  });

  it('of an agent wants a server and its token, which may be unknown in a preview', () => {
    const agent = {
      role: 'agent',
      host: 'w',
      address: 'a',
      hostKeySha256: `SHA256:${'A'.repeat(43)}`,
      credentialRef: 'k',
      artefactUrl: 'https://a/k3s',
      artefactSha256: SHA256,
    };
    expect(checkK3s(agent).failures.map(({ property }) => property)).toEqual(['serverUrl', 'token']);
    expect(checkK3s({ ...agent, serverUrl: UNKNOWN_VALUE, token: UNKNOWN_VALUE }).failures).toEqual([]);
  });

  it('is reached from outside by the host, not by the loopback address of its kubeconfig', () => {
    const text = 'clusters:\n- cluster:\n    server: https://127.0.0.1:6443\n';
    expect(reachableKubeconfig(text, { address: 'fd00::1', apiPort: 7443 })).toContain(
      'server: https://[fd00::1]:7443',
    );
  });
});
