/** restic on a node: the machine's own where it is new enough, else the control plane's, held against its SHA-256. */
import { createHash } from 'node:crypto';
import {
  accessSync,
  chmodSync,
  constants,
  createWriteStream,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { delimiter, join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { isResticNewEnough, readResticVersion } from './run-restic.ts';

export interface Restic {
  program: string;
  version: string;
}

export interface ResticSource {
  /** Of the control plane. */
  url: string;
  /** Where a downloaded one is kept. */
  directory: string;
  searchPath: string;
}

/** Fails with a sentence. Whatever is not what its digest says is not run. */
export class ResticMissing extends Error {}

/** @param digests by platform, as the order says */
export async function obtainRestic(
  { url, directory, searchPath }: ResticSource,
  digests: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<Restic> {
  const own = findProgram('restic', searchPath);
  const ownVersion = own === null ? null : await readResticVersion(own);
  if (own !== null && ownVersion !== null && isResticNewEnough(ownVersion))
    return { program: own, version: ownVersion };
  const platform = `${process.platform}-${process.arch}`;
  const digest = digests[platform];
  if (digest === undefined || !/^[0-9a-f]{64}$/.test(digest)) {
    throw new ResticMissing(
      `there is no restic of version 0.14 or newer here, and the control plane has none for ${platform}`,
    );
  }
  const program = join(directory, `restic-${digest.slice(0, 16)}`);
  if (!existsSync(program)) await download(`${url}/api/v1/nodes/restic/${platform}`, program, digest, signal);
  const version = await readResticVersion(program);
  if (version === null) throw new ResticMissing('the restic of the control plane does not run here');
  return { program, version };
}

/** null: none of that name may be run. */
export function findProgram(name: string, searchPath: string): string | null {
  for (const folder of searchPath.split(delimiter)) {
    if (folder === '') continue;
    const candidate = join(folder, name);
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // The next one.
    }
  }
  return null;
}

async function download(url: string, target: string, digest: string, signal: AbortSignal): Promise<void> {
  const response = await fetch(url, { signal, redirect: 'error' });
  if (!response.ok || response.body === null)
    throw new ResticMissing(`restic could not be downloaded: ${response.status}`);
  mkdirSync(join(target, '..'), { recursive: true, mode: 0o700 });
  const aside = `${target}.${process.pid}`;
  const hash = createHash('sha256');
  const digesting = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      done(null, chunk);
    },
  });
  try {
    const body = Readable.fromWeb(response.body as Parameters<typeof Readable.fromWeb>[0]);
    await pipeline(body, createGunzip(), digesting, createWriteStream(aside, { mode: 0o700 }));
    if (hash.digest('hex') !== digest) throw new ResticMissing('the downloaded restic is not what its checksum says');
    chmodSync(aside, 0o700);
    renameSync(aside, target);
  } finally {
    rmSync(aside, { force: true });
  }
}
