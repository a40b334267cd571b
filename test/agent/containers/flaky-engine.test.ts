/** Whatever fails at the engine, and however often the agent is started anew: in the end there is what shall be, once. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { volumeName } from '../../../agent/containers/container-config.ts';
import { createEngine, EngineError, type Engine } from '../../../agent/containers/engine.ts';
import { createPods, type NodePods } from '../../../agent/containers/pods.ts';
import { podSpec, type DesiredPod } from '../../../api/contract/pods.ts';
import { startSimulatedEngine } from '../../../sandbox/docker/engine.ts';
import { createSeededRandom } from '../../support/seeded-random.ts';

const IDS = ['a', 'b', 'c'].map((letter) => `pod_${letter.repeat(16)}`);

const pod = (podId: string, run: number, state: DesiredPod['state']): DesiredPod => ({
  podId,
  run,
  state,
  spec: podSpec.parse({ image: 'acme/server', mounts: [{ kind: 'volume', name: 'data', target: '/data' }] }),
  gpus: [],
  registryLogin: null,
});

/** Fails before or after the engine has done what it was asked, while `isFlaky`. */
function makeFlaky(engine: Engine, random: () => number, isFlaky: () => boolean): Engine {
  const fail = () => isFlaky() && random() < 0.15;
  return {
    async call(method, path, options) {
      if (fail()) throw new EngineError(random() < 0.5 ? 0 : 500, 'a fault before');
      const answer = await engine.call(method, path, options);
      if (fail()) throw new EngineError(0, 'the answer was lost');
      return answer;
    },
    async open(method, path, options) {
      if (fail()) throw new EngineError(500, 'a fault before');
      return engine.open(method, path, options);
    },
  };
}

describe.each([1, 2, 3, 4, 5])('an engine that fails now and then, seed %i', (seed) => {
  it('ends with exactly the containers that shall be', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'muster-flaky-'));
    const socket = join(directory, 'd.sock');
    const simulated = await startSimulatedEngine({ socket, file: join(directory, 'd.json'), boot: '1' });
    const sound = createEngine(socket);
    const random = createSeededRandom(seed).next;
    let isFlaky = true;
    const startAgent = () =>
      createPods({
        engine: makeFlaky(sound, random, () => isFlaky),
        directory,
        workspace: join(directory, 'w'),
        monotonicMs: () => performance.now() * 50, // waits between tries pass quickly
        changed: () => {},
        log: () => {},
        lookEveryMs: 10,
      });
    let agent: NodePods = startAgent();
    const runs = new Map(IDS.map((id) => [id, 1]));
    try {
      for (let step = 0; step < 12; step++) {
        for (const id of IDS) if (random() < 0.4) runs.set(id, (runs.get(id) ?? 0) + 1);
        agent.apply(
          IDS.filter(() => random() < 0.8).map((id) =>
            pod(id, runs.get(id) ?? 1, random() < 0.8 ? 'running' : 'stopped'),
          ),
        );
        if (random() < 0.3) {
          agent.stop();
          agent = startAgent();
        }
        await new Promise((resolve) => setTimeout(resolve, 40 * random()));
      }
      isFlaky = false;
      const [first, second] = IDS as [string, string];
      agent.apply([pod(first, 50, 'running'), pod(second, 50, 'removed')]);
      const list = async () =>
        (await sound.call('GET', '/containers/json?all=1')) as { State: string; Labels: Record<string, string> }[];
      const volumes = async () =>
        ((await sound.call('GET', '/volumes')) as { Volumes: { Name: string }[] }).Volumes.map(
          ({ Name: name }) => name,
        );
      const until = performance.now() + 15_000;
      const isDone = async () => {
        const [one, ...others] = await list();
        const isRight = one?.State === 'running' && one.Labels['io.muster.run'] === '50' && others.length === 0;
        return isRight && (await volumes()).length === 1;
      };
      // For a while: what was under way when it was no longer wanted may still come and go.
      for (let looks = 0; looks < 5 && performance.now() < until; looks = (await isDone()) ? looks + 1 : 0)
        await new Promise((resolve) => setTimeout(resolve, 20));
      expect(await list()).toMatchObject([
        { State: 'running', Labels: { 'io.muster.pod': first, 'io.muster.run': '50' } },
      ]);
      expect(await volumes()).toEqual([volumeName(directory, first, 'data')]);
    } finally {
      agent.stop();
      await simulated.close();
      rmSync(directory, { recursive: true, force: true });
    }
  }, 30_000);
});

describe('a list that was asked for before a container was started, and comes after', () => {
  it('does not have it started once more', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'muster-stale-'));
    const socket = join(directory, 'd.sock');
    const simulated = await startSimulatedEngine({ socket, file: join(directory, 'd.json'), boot: '1' });
    const sound = createEngine(socket);
    const listed = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const heard = Promise.withResolvers<void>();
    const starts: string[] = [];
    let isStarting = false;
    const engine: Engine = {
      ...sound,
      async call(method, path, options) {
        if (path.endsWith('/start')) {
          starts.push(path);
          isStarting = true;
          await listed.promise;
          const answer = await sound.call(method, path, options);
          started.resolve();
          return answer;
        }
        const isLate = path.startsWith('/containers/json') && isStarting && starts.length === 1;
        const answer = await sound.call(method, path, options);
        if (isLate) {
          isStarting = false;
          listed.resolve();
          await started.promise;
          await new Promise((resolve) => setTimeout(resolve, 50)); // what began it is at its end
          setTimeout(heard.resolve, 50);
        }
        return answer;
      },
    };
    const agent = createPods({
      engine,
      directory,
      workspace: join(directory, 'w'),
      monotonicMs: () => performance.now(),
      changed: () => {},
      log: () => {},
      lookEveryMs: 10,
    });
    try {
      agent.apply([pod(IDS[0] as string, 1, 'running')]);
      await heard.promise;
      expect(starts).toHaveLength(1);
      expect(agent.report()?.items).toMatchObject([{ status: 'running', run: 1 }]);
    } finally {
      agent.stop();
      await simulated.close();
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
