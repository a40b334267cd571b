/**
 * The pods of this node: what shall run is compared with our containers every little while, and each pod brought on by pod-life.ts. Containers of
 * ours that no pod shall have any more are removed; those of anybody else are not even looked at.
 */
import { join } from 'node:path';
import type { DesiredPod, PodReport, PodReports } from '../../api/contract/pods.ts';
import type { Pods } from '../duties.ts';
import { readJson, writePrivately } from '../private-file.ts';
import type { EngineKind } from './container-config.ts';
import { createContainers, type Container, type Containers } from './containers.ts';
import type { Engine } from './engine.ts';
import { createImages } from './images.ts';
import { createPodLife, type PodLife } from './pod-life.ts';

export interface PodsParts {
  engine: Engine;
  /** Of the agent: what it remembers, and by which its containers are known. */
  directory: string;
  workspace: string;
  monotonicMs: () => number;
  /** Tell soon, or at once. */
  changed: (isUrgent: boolean) => void;
  log: (message: string) => void;
  /** Between two looks, while there are pods. @default 2 s */
  lookEveryMs?: number;
}

export interface NodePods extends Pods {
  /** The container of the pod's present run; undefined: there is none. Throws EngineError. */
  containerOf(podId: string): Promise<Container | undefined>;
  /** Looks no more. What runs goes on. */
  stop(): void;
}

const LOOK_EVERY_MS = 2_000;
/** Without pods: whether the engine is there, and whether something of ours was left. */
const IDLE_LOOK_EVERY_MS = 15_000;
const CLEAN_EVERY_MS = 600_000;

export function createPods(parts: PodsParts): NodePods {
  const { engine, directory, log, monotonicMs } = parts;
  let kind: EngineKind = 'docker';
  const containers: Containers = createContainers(engine, {
    owner: directory,
    workspace: parts.workspace,
    kind: () => kind,
  });
  const images = createImages(engine, directory, Date.now);
  const memory = createMemory(join(directory, 'containers', 'restarts.json'));
  const lives = new Map<string, PodLife>();
  /** Pods that shall not be here and are being removed. */
  const leaving = new Set<string>();
  /** Volumes are looked through: at the start, for those whose removal was broken off. */
  let areVolumesDue = true;
  /** It was said what shall run: before that nothing is an orphan. */
  let isWanted = false;
  let seen: PodReports['engine'] | null = null;
  let timer: NodeJS.Timeout | null = null;
  let looking: Promise<void> | null = null;
  let isStopped = false;
  let isAgain = false;
  let cleanAt = monotonicMs() + CLEAN_EVERY_MS;

  function changed(isUrgent: boolean): void {
    memory.keep(lives.values());
    parts.changed(isUrgent);
    if (isUrgent) soon(); // what follows from it
  }

  function soon(): void {
    if (isStopped) return;
    isAgain = true;
    if (looking === null) schedule(0);
  }

  function schedule(ms: number): void {
    if (timer !== null) clearTimeout(timer);
    timer = isStopped ? null : setTimeout(() => void look(), ms);
  }

  function look(): Promise<void> {
    looking ??= lookOnce().finally(() => {
      looking = null;
      schedule(isAgain ? 50 : lives.size > 0 ? (parts.lookEveryMs ?? LOOK_EVERY_MS) : IDLE_LOOK_EVERY_MS);
    });
    return looking;
  }

  async function lookOnce(): Promise<void> {
    isAgain = false;
    try {
      if (seen === null || seen.problem !== null) await meetEngine();
      // Of what is started meanwhile the list may say that it never was: by that it would be started once more.
      const idle = [...lives.values()].filter((life) => !life.isBusy());
      const found = await containers.list();
      if (isWanted) await takeOrphans(found);
      for (const life of idle) life.look(found.filter(({ podId }) => podId === life.desired.podId));
      if (monotonicMs() >= cleanAt) {
        cleanAt = monotonicMs() + CLEAN_EVERY_MS;
        await images.clean(new Set([...lives.values()].map(({ desired }) => desired.spec.image)));
      }
    } catch (error) {
      see({ name: seen?.name ?? 'unknown', version: seen?.version ?? null, problem: describe(error).slice(0, 300) });
    }
  }

  async function meetEngine(): Promise<void> {
    const version = (await engine.call('GET', '/version')) as {
      Version?: string;
      Components?: { Name?: string; Version?: string }[];
    };
    const podman = version.Components?.find(({ Name: name }) => name === 'Podman Engine');
    kind = podman ? 'podman' : 'docker';
    see({ name: kind, version: (podman?.Version ?? version.Version ?? null)?.slice(0, 60) ?? null, problem: null });
  }

  function see(next: PodReports['engine']): void {
    if (seen?.problem !== next.problem || seen.name !== next.name) {
      log(`container engine: ${next.name} ${next.version ?? ''}${next.problem === null ? '' : `: ${next.problem}`}`);
      seen = next;
      parts.changed(true);
    }
    seen = next;
  }

  /** Of pods that shall not be here: lost and placed elsewhere, or deleted while we were away. */
  async function takeOrphans(found: readonly Container[]): Promise<void> {
    const ids = new Set(found.map(({ podId }) => podId));
    if (areVolumesDue) for (const podId of await containers.podsWithVolumes()) ids.add(podId);
    areVolumesDue = false;
    for (const podId of ids) {
      if (lives.has(podId) || leaving.has(podId)) continue;
      leaving.add(podId);
      log(`${podId} shall not be on this node: it is removed`);
      takeAll(
        podId,
        found.filter((one) => one.podId === podId),
      )
        .catch((error: unknown) => {
          areVolumesDue = true; // its containers may be gone, by which it was found
          log(`${podId} could not be removed: ${describe(error)}`);
        })
        .finally(() => leaving.delete(podId));
    }
  }

  async function takeAll(podId: string, mine: readonly Container[]): Promise<void> {
    for (const { id, isRunning } of mine) {
      if (isRunning) await containers.stop(id, 10);
      await containers.remove(id);
    }
    await containers.removeVolumes(podId);
  }

  schedule(0);

  return {
    apply(desired: DesiredPod[]) {
      isWanted = true;
      const ids = new Set(desired.map(({ podId }) => podId));
      for (const [id, life] of lives) {
        if (ids.has(id)) continue;
        life.forget();
        lives.delete(id);
      }
      for (const pod of desired) {
        const life = lives.get(pod.podId);
        if (life) life.want(pod);
        else {
          const life = createPodLife(pod, { containers, images, monotonicMs, changed, log }, memory.recall(pod));
          lives.set(pod.podId, life);
        }
      }
      soon();
    },
    report() {
      if (seen === null) return undefined;
      const items: PodReport[] = [...lives.values()].map((life) => life.report());
      return { engine: seen, items };
    },
    async stopAll(reason) {
      isWanted = false;
      log(`the pods of this node end: ${reason}`);
      await looking;
      const found = await containers.list();
      await Promise.all(
        [...lives.values()].map((life) => life.hold(found.filter(({ podId }) => podId === life.desired.podId))),
      );
      // And those that nobody told us of yet.
      for (const { id, isRunning } of await containers.list()) if (isRunning) await containers.stop(id, 10);
    },
    async containerOf(podId) {
      const run = lives.get(podId)?.desired.run;
      return (await containers.list())
        .filter((one) => one.podId === podId && (run === undefined || one.run === run))
        .sort((a, b) => b.run - a.run)[0];
    },
    stop() {
      isStopped = true;
      for (const life of lives.values()) life.forget();
      if (timer !== null) clearTimeout(timer);
    },
  };
}

/** Restarts of present runs, so that an agent that is started again does not begin to count anew. */
function createMemory(file: string) {
  type Kept = Record<string, { run: number; restarts: number }>;
  const before = (readJson(file) as Kept | null) ?? {};
  let last = '';
  return {
    recall({ podId, run }: DesiredPod): number {
      const kept = before[podId];
      return kept?.run === run && Number.isInteger(kept.restarts) ? kept.restarts : 0;
    },
    keep(lives: Iterable<PodLife>): void {
      const kept: Kept = {};
      for (const life of lives) {
        const { podId, run } = life.desired;
        if (life.restarts() > 0) kept[podId] = { run, restarts: life.restarts() };
      }
      const text = JSON.stringify(kept);
      if (text === last || (last === '' && text === '{}')) return;
      last = text;
      try {
        writePrivately(file, text);
      } catch {
        // A count that begins anew is no reason to run nothing.
      }
    },
  };
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
