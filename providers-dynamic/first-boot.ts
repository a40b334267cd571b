/**
 * Shell commands for the first boot of a rented virtual machine, where there is no container to give keys, variables and a start
 * script to. How a vendor takes such commands is its own folder's matter.
 */

export interface MachineUser {
  name: string;
  home: string;
  /** Whether only some of the vendor's images have this user. */
  isOptional?: boolean;
}

const ENV_FILE = '/etc/muster/env.sh';
const ON_START_FILE = '/var/lib/muster/on-start.sh';
/** cloud-init runs what lies here at every boot; at the first one, before the commands of this file have put it there. */
const PER_BOOT_FILE = '/var/lib/cloud/scripts/per-boot/muster-on-start';
const SOURCE_ENV = `[ -r ${ENV_FILE} ] && . ${ENV_FILE}`;

/** Adds to the keys that are there, which may end without a line break. */
export function letKeysIn(keys: readonly string[], { name, home, isOptional }: MachineUser): string[] {
  if (keys.length === 0) return [];
  const lines = encode(`${keys.map((key) => key.trim()).join('\n')}\n`);
  const file = `${home}/.ssh/authorized_keys`;
  const commands = [
    `mkdir -p ${home}/.ssh && chmod 700 ${home}/.ssh && touch ${file} && sed -i '$a\\' ${file}`,
    `echo ${lines} | base64 -d >> ${file}`,
    `chmod 600 ${file} && chown -R ${name}: ${home}/.ssh`,
  ];
  return isOptional === true ? commands.map((command) => `if [ -d ${home} ]; then ${command}; fi`) : commands;
}

/** For login shells, for commands over SSH, and for onStart; readable for root and this user only. */
export function setEnvironment(env: Record<string, string>, { name, home }: MachineUser): string[] {
  const entries = Object.entries(env);
  if (entries.length === 0) return [];
  const file = entries.map(([key, value]) => `export ${key}='${value.replaceAll("'", `'\\''`)}'\n`).join('');
  const shellFile = `${home}/.bashrc`;
  return [
    'mkdir -p /etc/muster && chmod 755 /etc/muster',
    `(umask 077; echo ${encode(file)} | base64 -d > ${ENV_FILE})`,
    `chown ${name}: ${ENV_FILE}`,
    `echo '${SOURCE_ENV}' > /etc/profile.d/muster-env.sh`,
    // At the top: the stock file returns at once where the shell is not interactive.
    `touch ${shellFile} && sed -i '1i ${SOURCE_ENV}' ${shellFile}; [ -s ${shellFile} ] || echo '${SOURCE_ENV}' > ${shellFile}`,
  ];
}

/** In the background, so that cloud-init ends while it runs; again at each boot, as a container's start script would. */
export function runOnStart(onStart: string | null): string[] {
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
