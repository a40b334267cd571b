import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EngineError, type Engine } from '../../../agent/containers/engine.ts';
import { createImages } from '../../../agent/containers/images.ts';
import { podSpec, type DesiredPod } from '../../../api/contract/pods.ts';

let directory: string;
let now: number;
let here: Set<string>;
let calls: string[];
let headers: Readonly<Record<string, string>> | undefined;
let pulled: string[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'muster-images-'));
  now = 0;
  here = new Set();
  calls = [];
  pulled = ['{"status":"Downloading","id":"a","progressDetail":{"current":5,"total":10}}'];
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const engine: Engine = {
  async call(method, path) {
    const image = decodeURIComponent(path).replace(/^\/images\/(.+?)(\/json)?$/, '$1');
    calls.push(`${method} ${image}`);
    if (!here.has(image)) throw new EngineError(404, 'No such image');
    if (method === 'DELETE') here.delete(image);
    return { Id: 'sha256:1', RepoDigests: [`${image}@sha256:2`] };
  },
  async open(_method, path, call) {
    calls.push(`pull ${decodeURIComponent(path)}`);
    headers = call?.headers;
    const query = new URLSearchParams(path.split('?')[1]);
    if (!pulled.some((line) => line.includes('error'))) here.add(`${query.get('fromImage')}:${query.get('tag')}`);
    return Readable.from(pulled.map((line) => `${line}\n`)) as never;
  },
};

const images = () => createImages(engine, directory, () => now);
const pod = (image: string, registryLogin: DesiredPod['registryLogin'] = null): DesiredPod => ({
  podId: 'pod_aaaaaaaaaaaaaaaa',
  run: 1,
  state: 'running',
  spec: podSpec.parse({ image }),
  gpus: [],
  registryLogin,
});
const ensure = (one: DesiredPod, progress: (percent: number | null) => void = () => {}) =>
  images().ensure(one, { signal: new AbortController().signal, progress });

describe('an image', () => {
  it('that is there is not fetched', async () => {
    here.add('acme/x:1');
    expect(await ensure(pod('acme/x:1'))).toBe('sha256:2');
    expect(calls).toEqual(['GET acme/x:1']);
  });

  it('that is not is fetched by its one tag, with progress and the login of its registry', async () => {
    const seen: (number | null)[] = [];
    await ensure(pod('ghcr.io/acme/x:1', { registry: 'ghcr.io', username: 'me', password: 'secret' }), (percent) =>
      seen.push(percent),
    );
    expect(seen).toEqual([null, 50]);
    expect(calls[1]).toBe('pull /images/create?fromImage=ghcr.io/acme/x&tag=1');
    const login = JSON.parse(Buffer.from(headers?.['x-registry-auth'] ?? '', 'base64url').toString('utf8')) as object;
    expect(login).toEqual({ username: 'me', password: 'secret', serveraddress: 'ghcr.io' });
  });

  it.each([
    ['unauthorized: authentication required', true],
    ['manifest unknown', true],
    ['connection reset by peer', false],
  ])('whose registry says "%s" is given up at once: %s', async (error, isFinal) => {
    pulled = [JSON.stringify({ error })];
    await expect(ensure(pod('acme/x:1'))).rejects.toMatchObject({ name: 'PullError', message: error, isFinal });
  });
});

describe('cleaning up', () => {
  it('removes what we fetched and nobody has needed for a week, and nothing that somebody else brought', async () => {
    here.add('theirs:1');
    await ensure(pod('theirs:1'));
    await ensure(pod('ours:1'));
    await ensure(pod('used:1'));
    now = 8 * 86_400_000;
    await images().clean(new Set(['used:1'])); // an agent that was started anew
    expect([...here].sort()).toEqual(['theirs:1', 'used:1']);
  });

  it('keeps twenty of those that nobody needs, the latest', async () => {
    const all = images();
    for (let n = 0; n < 22; n++) {
      now = n;
      await all.ensure(pod(`ours:${n}`), { signal: new AbortController().signal, progress: () => {} });
    }
    await all.clean(new Set());
    expect(here.size).toBe(20);
    expect(here.has('ours:0')).toBe(false);
  });
});
