/**
 * A real Podman with runc, as its own service with a store of its own, and an image made of busybox: no registry, no network. Where it cannot be
 * had, `findPodman` says why, for the test to show. `node test/support/podman.ts --install` installs Debian's.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import {
  accessSync,
  constants,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  copyFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createEngine, type Engine } from '../../agent/containers/engine.ts';

export const BUSYBOX_IMAGE = 'localhost/muster-busybox:latest';
const PROGRAMS = ['podman', 'runc', 'conmon'];
const BUSYBOX = '/bin/busybox';
const COMMANDS = [
  'sh',
  'echo',
  'sleep',
  'cat',
  'env',
  'ls',
  'touch',
  'httpd',
  'true',
  'false',
  'seq',
  'dd',
  'head',
  'mkdir',
  'trap',
  'ln',
];
const START_MS = 20_000;

/** null: it is all here. */
export function findPodman(): string | null {
  const missing = PROGRAMS.filter((name) => !isProgram(name));
  if (!isExecutable(BUSYBOX)) missing.push('busybox-static');
  if (missing.length > 0) return `${missing.join(', ')} not installed (node test/support/podman.ts --install)`;
  if (process.getuid?.() !== 0) return 'containers with limits need root here';
  return null;
}

export interface PodmanService {
  socket: string;
  engine: Engine;
  /** A folder that goes with it. */
  directory: string;
  stop(): Promise<void>;
}

/** Throws where it does not come up. Containers end with it. */
export async function startPodman(): Promise<PodmanService> {
  const directory = mkdtempSync(join(tmpdir(), 'muster-podman-'));
  const socket = join(directory, 'podman.sock');
  writeFileSync(join(directory, 'containers.conf'), CONFIG);
  const flags = ['--root', join(directory, 'root'), '--runroot', join(directory, 'run'), '--storage-driver', 'vfs'];
  const env = { PATH: process.env['PATH'] ?? '', HOME: directory, CONTAINERS_CONF: join(directory, 'containers.conf') };
  let said = '';
  const service: ChildProcess = spawn('podman', [...flags, 'system', 'service', '--time=0', `unix://${socket}`], {
    env,
  });
  service.stderr?.on('data', (part: Buffer) => (said = (said + part.toString('utf8')).slice(-4_000)));
  const engine = createEngine(socket);
  async function stop(): Promise<void> {
    // Their ends are awaited, because their mounts keep the folder.
    execFileSync('podman', [...flags, 'rm', '--all', '--force', '--time', '0'], {
      env,
      stdio: 'ignore',
      timeout: 60_000,
    });
    service.kill('SIGTERM');
    if (service.exitCode === null && service.signalCode === null)
      await new Promise((resolve) => service.once('exit', resolve));
    rmSync(directory, { recursive: true, force: true });
  }
  const until = performance.now() + START_MS;
  for (;;) {
    const trouble = await engine.call('GET', '/version').then(
      () => null,
      (error: Error) => error.message,
    );
    if (trouble === null) break;
    if (performance.now() > until || service.exitCode !== null) {
      service.kill('SIGKILL');
      throw new Error(`podman does not answer: ${trouble}\n${said}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  importImage(directory, flags, env);
  return { socket, engine, directory, stop };
}

/** A Docker with limits of open files and processes that containers of a container can have. */
const CONFIG = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
`;

function importImage(directory: string, flags: readonly string[], env: Record<string, string>): void {
  const root = join(directory, 'image');
  for (const folder of ['bin', 'tmp', 'etc', 'www']) mkdirSync(join(root, folder), { recursive: true });
  copyFileSync(BUSYBOX, join(root, 'bin', 'busybox'));
  for (const name of COMMANDS) symlinkSync('busybox', join(root, 'bin', name));
  writeFileSync(join(root, 'etc', 'passwd'), 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n');
  writeFileSync(join(root, 'www', 'index.html'), 'hello\n');
  const archive = join(directory, 'image.tar');
  execFileSync('tar', ['-C', root, '-cf', archive, '.']);
  execFileSync('podman', [...flags, 'import', '--quiet', archive, BUSYBOX_IMAGE], {
    env,
    stdio: 'ignore',
    timeout: 60_000,
  });
}

function isProgram(name: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((folder) => isExecutable(join(folder, name)));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

if (import.meta.main && process.argv.includes('--install')) {
  const install = ['install', '-y', '--no-install-recommends', 'podman', 'runc', 'conmon', 'busybox-static'];
  execFileSync('apt-get', ['update'], { stdio: 'inherit' });
  execFileSync('apt-get', install, { stdio: 'inherit', env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } });
}
