/**
 * Debian's own sshd on loopback: each host is one server process with a port, a host key and a user of its own. Needs root and the
 * package openssh-server, which is installed when it is missing; where it cannot be had, `sshd` says why.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeKeyPair } from './ssh-machine.ts';
import { until } from './fleet-database.ts';

const SSHD = '/usr/sbin/sshd';

/** null: it is there. */
export const sshdMissing: string | null = obtainSshd();

function obtainSshd(): string | null {
  if (process.getuid?.() !== 0) return 'users and sudo rules need root';
  if (existsSync(SSHD) && existsSync('/usr/bin/sudo')) return null;
  try {
    execFileSync('apt-get', ['install', '-y', '--no-install-recommends', 'openssh-server', 'sudo'], {
      stdio: 'ignore',
      timeout: 120_000,
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    });
    return existsSync(SSHD) ? null : 'openssh-server brought no sshd';
  } catch (error) {
    return `openssh-server cannot be installed: ${(error as Error).message.split('\n')[0]}`;
  }
}

export interface SshdHost {
  address: string;
  port: number;
  user: string;
  hostKeySha256: string;
  privateKey: string;
  /** A folder for what is installed on the host; root's. */
  dir: string;
  /** Stops answering without closing anything, as a host that hangs; its sessions too. */
  freeze(): void;
  thaw(): void;
  /** The whole host: listener and sessions. */
  kill(): Promise<void>;
  /** The same host again, after kill. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

export interface SshdOptions {
  /** @default sudo: another user than root, who may become root */
  user?: 'root' | 'sudo' | 'no_sudo';
  /** @default ed25519 */
  hostKeyType?: 'ed25519' | 'rsa' | 'ecdsa';
}

export async function startSshd(options: SshdOptions = {}): Promise<SshdHost> {
  const dir = mkdtempSync(join(tmpdir(), 'muster-sshd-'));
  const root = join(dir, 'host');
  mkdirSync(root, { mode: 0o755 });
  mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  const kind = options.user ?? 'sudo';
  const user = kind === 'root' ? 'root' : `mst${randomBytes(4).toString('hex')}`;
  if (kind !== 'root') await changeUsers('useradd', ['-M', '-d', dir, '-s', '/bin/sh', '-p', '*', user]);
  const rule = `/etc/sudoers.d/${user}`;
  if (kind === 'sudo') writeFileSync(rule, `${user} ALL=(ALL) NOPASSWD: ALL\n`, { mode: 0o440 });
  const pair = makeKeyPair();
  const keyFile = join(dir, 'host_key');
  execFileSync('ssh-keygen', ['-q', '-t', options.hostKeyType ?? 'ed25519', '-N', '', '-f', keyFile]);
  writeFileSync(join(dir, 'authorized_keys'), `${pair.public}\n`);
  execFileSync('chmod', ['755', dir]);
  const port = await findPort();
  writeFileSync(
    join(dir, 'sshd_config'),
    [
      `Port ${port}`,
      'ListenAddress 127.0.0.1',
      `HostKey ${keyFile}`,
      `AuthorizedKeysFile ${join(dir, 'authorized_keys')}`,
      'PidFile none',
      'UsePAM no',
      'StrictModes no',
      'PasswordAuthentication no',
      'PermitRootLogin prohibit-password',
      '',
    ].join('\n'),
  );
  let listener: ChildProcess;
  async function start(): Promise<void> {
    listener = spawn(SSHD, ['-D', '-e', '-f', join(dir, 'sshd_config')], { stdio: 'ignore' });
    await until(() => answers(port), 'sshd listens', 10_000);
  }
  /** The listener and the processes of its sessions; commands that were left in the background live on. */
  function signal(name: NodeJS.Signals): void {
    for (const pid of sshdTree(listener.pid as number)) {
      try {
        process.kill(pid, name);
      } catch {
        // ended meanwhile
      }
    }
  }
  async function kill(): Promise<void> {
    if (listener.exitCode !== null || listener.signalCode !== null) return;
    const gone = new Promise((resolve) => listener.once('exit', resolve));
    signal('SIGKILL');
    await gone;
  }
  await start();
  return {
    address: '127.0.0.1',
    port,
    user,
    hostKeySha256: fingerprint(readFileSync(`${keyFile}.pub`, 'utf8')),
    privateKey: pair.private,
    dir: root,
    freeze: () => signal('SIGSTOP'),
    thaw: () => signal('SIGCONT'),
    kill,
    restart: start,
    async close() {
      signal('SIGCONT');
      await kill();
      endProcessesOf(root);
      rmSync(rule, { force: true });
      if (kind !== 'root') await changeUsers('userdel', ['-f', user]);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** What was installed on the host and left running by a test that failed. Twice, because a keeper may be starting one. */
function endProcessesOf(dir: string): void {
  for (let round = 0; round < 2; round++) {
    const rows = execFileSync('ps', ['-eo', 'pid=,args='], { encoding: 'utf8' }).split('\n');
    for (const row of rows.filter((each) => each.includes(`${dir}/`))) {
      try {
        process.kill(Number(row.trim().split(' ')[0]), 'SIGKILL');
      } catch {
        // ended meanwhile
      }
    }
  }
}

/** One at a time may write the list of users, and other test files may be at it. */
async function changeUsers(command: string, args: string[]): Promise<void> {
  await until(
    () => {
      try {
        execFileSync(command, args, { stdio: 'pipe' });
        return true;
      } catch (error) {
        if (/lock/.test(String((error as { stderr?: Buffer }).stderr))) return false;
        throw error;
      }
    },
    `${command} has its turn`,
    10_000,
  );
}

function fingerprint(publicKey: string): string {
  const blob = Buffer.from(publicKey.split(' ')[1] as string, 'base64');
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

/** sshd processes below `root`, and it; their children are told by the parent's number in /proc. */
function sshdTree(root: number): number[] {
  const text = execFileSync('ps', ['-eo', 'pid=,ppid=,comm='], { encoding: 'utf8' });
  const rows = text
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/));
  const tree = [root];
  for (let grew = true; grew;) {
    grew = false;
    for (const [pid, parent, name] of rows) {
      if (!tree.includes(Number(parent)) || tree.includes(Number(pid)) || !name?.startsWith('sshd')) continue;
      tree.push(Number(pid));
      grew = true;
    }
  }
  return tree;
}

async function findPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true));
    socket.on('error', () => resolve(false)).on('connect', () => socket.destroy());
  });
}
