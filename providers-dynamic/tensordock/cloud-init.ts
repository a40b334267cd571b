/**
 * What a TensorDock machine does at its first boot, as cloud-init commands. Keys come this way because the vendor takes `ssh_key`
 * and does not install it; only `runcmd` was seen to work (not `ssh_authorized_keys`, nor `write_files` with an encoding).
 */
import type { PurchaseOrder } from '../provider-client.ts';

export interface CloudInit {
  package_update: boolean;
  package_upgrade: boolean;
  runcmd: string[];
}

const ENV_FILE = '/etc/muster/env.sh';
const ON_START_FILE = '/var/lib/muster/on-start.sh';
/** cloud-init runs what lies here at every boot; at the first one, before the commands of this file have put it there. */
const PER_BOOT_FILE = '/var/lib/cloud/scripts/per-boot/muster-on-start';
const SOURCE_ENV = `[ -r ${ENV_FILE} ] && . ${ENV_FILE}`;

/** In order: keys first, so that the machine can be looked into whatever fails after them. */
export function cloudInitFor(order: Pick<PurchaseOrder, 'env' | 'onStart' | 'sshPublicKeys'>): CloudInit {
  return {
    package_update: false,
    package_upgrade: false,
    runcmd: [
      ...letKeysIn(order.sshPublicKeys),
      ...settleDriver(),
      ...setEnvironment(order.env),
      ...runOnStart(order.onStart),
    ],
  };
}

/** For root and, where the image has it, for its own `user`. */
function letKeysIn(keys: string[]): string[] {
  const lines = encode(`${keys.map((key) => key.trim()).join('\n')}\n`);
  return [
    'mkdir -p /root/.ssh && chmod 700 /root/.ssh',
    `echo ${lines} | base64 -d >> /root/.ssh/authorized_keys`,
    'chmod 600 /root/.ssh/authorized_keys',
    'if [ -d /home/user ]; then mkdir -p /home/user/.ssh && chmod 700 /home/user/.ssh; fi',
    `if [ -d /home/user ]; then echo ${lines} | base64 -d >> /home/user/.ssh/authorized_keys; fi`,
    'if [ -d /home/user ]; then chmod 600 /home/user/.ssh/authorized_keys && chown -R user:user /home/user/.ssh; fi',
  ];
}

/**
 * Images were seen with the driver's packages half installed, and with unattended upgrades that hold the package lock for
 * minutes; an upgrade of the driver also breaks it under what runs. The wait for the lock is bounded.
 */
function settleDriver(): string[] {
  return [
    'systemctl disable --now unattended-upgrades.service apt-daily.timer apt-daily-upgrade.timer >/dev/null 2>&1 || true',
    'if ! nvidia-smi >/dev/null 2>&1; then' +
      ' for i in $(seq 60); do fuser /var/lib/dpkg/lock-frontend >/dev/null 2>&1 || break; sleep 2; done;' +
      ' DEBIAN_FRONTEND=noninteractive dpkg --configure -a >>/var/log/muster-driver.log 2>&1;' +
      ' modprobe nvidia >>/var/log/muster-driver.log 2>&1 || true;' +
      ' fi',
  ];
}

/** For login shells, for commands over SSH, and for onStart. */
function setEnvironment(env: Record<string, string>): string[] {
  const entries = Object.entries(env);
  if (entries.length === 0) return [];
  const file = entries.map(([name, value]) => `export ${name}='${value.replaceAll("'", `'\\''`)}'\n`).join('');
  return [
    'mkdir -p /etc/muster && chmod 755 /etc/muster',
    `(umask 077; echo ${encode(file)} | base64 -d > ${ENV_FILE})`,
    `echo '${SOURCE_ENV}' > /etc/profile.d/muster-env.sh`,
    // At the top: the stock file returns at once where the shell is not interactive.
    `touch /root/.bashrc && sed -i '1i ${SOURCE_ENV}' /root/.bashrc; [ -s /root/.bashrc ] || echo '${SOURCE_ENV}' > /root/.bashrc`,
  ];
}

/** In the background, so that cloud-init ends while it runs; again at each boot, as a container's start script would. */
function runOnStart(onStart: string | null): string[] {
  if (onStart === null || onStart === '') return [];
  const runner = [
    '#!/bin/bash',
    SOURCE_ENV,
    `nohup setsid /bin/bash ${ON_START_FILE} >> /var/log/muster-on-start.log 2>&1 < /dev/null &`,
    '',
  ].join('\n');
  return [
    'mkdir -p /var/lib/muster /var/lib/cloud/scripts/per-boot',
    `(umask 077; echo ${encode(onStart)} | base64 -d > ${ON_START_FILE})`,
    `(umask 077; echo ${encode(runner)} | base64 -d > ${PER_BOOT_FILE})`,
    `chmod 700 ${PER_BOOT_FILE}`,
    PER_BOOT_FILE,
  ];
}

function encode(content: string): string {
  return Buffer.from(content, 'utf8').toString('base64');
}
