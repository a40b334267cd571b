import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cloudInitFor } from '../../../providers-dynamic/tensordock/cloud-init.ts';
import { runCloudInit } from '../../../sandbox/rental/cloud-init.ts';

const KEYS = [
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZvb2Jhcm9vZm9vYmFyb29mb29iYXJvb2Zvb2Jhcm9v one',
  `  ${'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7vbqajDhA7vbqajDhA two'} `,
];
const ENV = { TOKEN: `it's "$HOME" \\ \`secret\``, LINES: 'a\nb', EMPTY: '' };
const SCRIPT = '#!/bin/sh\necho "started with $TOKEN" > out\n';

describe('the first boot of a machine', () => {
  let root: string;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'muster-cloud-init-'));
    for (const folder of ['root', 'home/user', 'etc/profile.d', 'var/log'])
      mkdirSync(join(root, folder), { recursive: true });
    writeFileSync(join(root, 'root/.bashrc'), '[ -z "$PS1" ] && return\n');
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  /** Really runs the commands, with every absolute path of the machine below a folder, and its tools stubbed. */
  function boot(order: Parameters<typeof cloudInitFor>[0]): void {
    const stubs = 'systemctl() { :; }; nvidia-smi() { :; }; chown() { :; }; setsid() { "$@"; }; nohup() { "$@"; };';
    const toRoot = (text: string) => text.replaceAll(/(?<=^|[\s"'[=(>])\/(?=(?:root|home|etc|var)\/)/gm, `${root}/`);
    const commands = cloudInitFor(order).runcmd.map((command) => {
      // What is base64 names paths too.
      const inner = command.replace(/echo (\S+) \| base64 -d/, (all, encoded: string) => {
        const file = Buffer.from(encoded, 'base64').toString();
        return file.includes(' /var/lib/muster') || file.includes('/etc/muster')
          ? `echo ${Buffer.from(toRoot(file)).toString('base64')} | base64 -d`
          : all;
      });
      return toRoot(inner);
    });
    execFileSync('/bin/bash', ['-c', `cd ${root}; ${stubs}\n${commands.join('\n')}\nwait`], { stdio: 'pipe' });
  }

  const file = (path: string) => readFileSync(join(root, path), 'utf8');
  const mode = (path: string) => statSync(join(root, path)).mode & 0o777;

  it('lets every key in, for root and for the image’s own user', () => {
    writeFileSync(join(root, 'root/.bashrc'), '');
    mkdirSync(join(root, 'root/.ssh'));
    writeFileSync(join(root, 'root/.ssh/authorized_keys'), 'ssh-ed25519 BBBB there-before\n');
    boot({ env: {}, onStart: null, sshPublicKeys: KEYS });
    const trimmed = KEYS.map((key) => `${key.trim()}\n`).join('');
    expect(file('root/.ssh/authorized_keys')).toBe(`ssh-ed25519 BBBB there-before\n${trimmed}`);
    expect(file('home/user/.ssh/authorized_keys')).toBe(trimmed);
    expect([mode('root/.ssh'), mode('root/.ssh/authorized_keys')]).toEqual([0o700, 0o600]);
  });

  it('gives commands over SSH the environment, exactly as it was ordered', () => {
    boot({ env: ENV, onStart: null, sshPublicKeys: KEYS });
    expect(mode('etc/muster/env.sh')).toBe(0o600);
    for (const start of ['root/.bashrc', 'etc/profile.d/muster-env.sh']) {
      const shown = execFileSync('/bin/bash', ['-c', `. ${join(root, start)}; printf '%s|%s' "$TOKEN" "$LINES"`], {
        encoding: 'utf8',
      });
      expect(shown, start).toBe(`${ENV.TOKEN}|${ENV.LINES}`);
    }
  });

  it('runs onStart with that environment, and keeps it for every later boot', async () => {
    boot({ env: ENV, onStart: SCRIPT, sshPublicKeys: KEYS });
    expect(mode('var/lib/cloud/scripts/per-boot/muster-on-start')).toBe(0o700);
    expect(file('var/lib/muster/on-start.sh')).toBe(SCRIPT);
    for (let tries = 0; tries < 50 && !exists(join(root, 'out')); tries++)
      await new Promise((resolve) => setTimeout(resolve, 20));
    expect(file('out')).toBe(`started with ${ENV.TOKEN}\n`);
  });

  it('is understood by the simulated vendor', () => {
    const order = { env: ENV, onStart: SCRIPT, sshPublicKeys: KEYS };
    const booted = runCloudInit(cloudInitFor(order).runcmd);
    expect(booted).toMatchObject({ startupScript: SCRIPT, env: ENV });
    for (const home of ['/root', '/home/user']) expect(booted.keysOf(home)).toEqual(KEYS.map((key) => key.trim()));
    expect(runCloudInit(cloudInitFor({ ...order, onStart: null, env: {} }).runcmd)).toMatchObject({
      startupScript: null,
      env: {},
    });
  });
});

function exists(path: string): boolean {
  try {
    return statSync(path).size > 0;
  } catch {
    return false;
  }
}
