/** `muster instances ssh`: the system's own ssh, straight to the machine; nothing of it passes through the control plane. */
import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { InstanceSsh } from '../../api/contract/instances.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';

/** The exit code is that of ssh, which is that of the command on the machine, or 255. */
export async function sshToInstance(
  context: Context,
  [id, ...command]: string[],
  options: { identityFile?: string },
): Promise<ExitCode> {
  const address = await context.api.get<InstanceSsh>(`/instances/${encodeURIComponent(id as string)}/ssh`);
  if (context.terminal.isJson) {
    context.terminal.printJson(address);
    return EXIT.done;
  }
  await mkdir(context.folder, { recursive: true, mode: 0o700 });
  const isAttended = context.terminal.isInteractive;
  const args = sshArguments(address, id as string, context.folder, { ...options, isAttended });
  return (await runSsh([...args, ...command])) as ExitCode;
}

/** The host key is remembered under the purchase's id: addresses and ports are recycled among machines, and an instance gets other ones. */
function sshArguments(
  address: InstanceSsh,
  instanceId: string,
  folder: string,
  options: { identityFile?: string; isAttended: boolean },
): string[] {
  // The address comes from a provider: it must not be able to look like an option or more than one word.
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(address.user) || !/^[A-Za-z0-9[][A-Za-z0-9.:[\]-]*$/.test(address.host)) {
    throw new CliError(`The address ${address.user}@${address.host} is none that ssh should be given.`, EXIT.failed);
  }
  const settings = [
    `UserKnownHostsFile="${join(folder, 'known_hosts')}"`,
    `HostKeyAlias=${address.attemptId ?? instanceId}`,
    'StrictHostKeyChecking=accept-new',
    'LogLevel=ERROR',
    'ConnectTimeout=20',
    'ServerAliveInterval=15',
    ...(options.isAttended ? [] : ['BatchMode=yes']),
    ...(options.identityFile === undefined ? [] : ['IdentitiesOnly=yes']),
  ];
  return [
    ...settings.flatMap((setting) => ['-o', setting]),
    ...(options.identityFile === undefined ? [] : ['-i', options.identityFile]),
    '-p',
    String(address.port),
    `${address.user}@${address.host}`,
  ];
}

function runSsh(args: string[]): Promise<number> {
  const child = spawn('ssh', args, { stdio: 'inherit' });
  // Ctrl-C belongs to the program on the other side; ssh gets it from the terminal as we do.
  const ignore = () => {};
  process.on('SIGINT', ignore);
  const forward = () => child.kill('SIGTERM');
  process.on('SIGTERM', forward);
  return new Promise<number>((resolve, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      const message =
        error.code === 'ENOENT' ? 'There is no ssh on the PATH: install OpenSSH.' : `ssh: ${error.message}`;
      reject(new CliError(message, EXIT.failed, { cause: error }));
    });
    child.once('exit', (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
  }).finally(() => {
    process.off('SIGINT', ignore);
    process.off('SIGTERM', forward);
  });
}
