/**
 * One pod on this node: from what is desired and what the engine has to the next thing to do, one at a time, until they agree. It keeps
 * nothing that the engine does not know as well but the count of restarts, so it goes on where an earlier agent left off.
 */
import type { DesiredPod, PodReport } from '../../api/contract/pods.ts';
import { UnfitPod } from './container-config.ts';
import type { Container, ContainerFacts, Containers } from './containers.ts';
import { PullError, type Images } from './images.ts';
import { ask, nextHealth, NOT_ASKED, type HealthState } from './probe.ts';
import { GOOD_RUN_MS, isStartedAgain, restartDelayMs } from './restart.ts';

export interface PodParts {
  containers: Containers;
  images: Images;
  /** Milliseconds of a clock that only moves forward. */
  monotonicMs: () => number;
  /** Something about it is other than before. */
  changed: (isUrgent: boolean) => void;
  log: (message: string) => void;
}

export interface PodLife {
  readonly desired: DesiredPod;
  want(desired: DesiredPod): void;
  /** Something is being done about it: what the engine says of it now may be out of date before it is heard. */
  isBusy(): boolean;
  /** One look; returns at once. @param mine its containers, of whatever run, as they were when it was not busy */
  look(mine: readonly Container[]): void;
  report(): PodReport;
  /** Restarts in its present run, to be remembered. */
  restarts(): number;
  /** Begins nothing more: it is not this node's any longer. What there is of it is taken away as an orphan. */
  forget(): void;
  /** Ends what runs of it, and does nothing more until it is wanted again. */
  hold(mine: readonly Container[]): Promise<void>;
}

const PULL_TRIES = 5;
const FACTS_EVERY_MS = 30_000;
const MAX_REASON = 500;

export function createPodLife(first: DesiredPod, parts: PodParts, restartsBefore = 0): PodLife {
  const { containers, images, monotonicMs, log } = parts;
  let desired = first;
  let report = freshReport(first, restartsBefore);
  let underWay: Promise<void> | null = null;
  let pulling: AbortController | null = null;
  let isHeld = false;
  /** It was ended by us and not by itself: it is started again without a count. */
  let wasHeld = false;
  let inARow = 0;
  let pullTries = 0;
  let dueAt = 0;
  let factsAt = -Infinity;
  let startedAt = -Infinity;
  let health: HealthState = NOT_ASKED;
  /** Why we ended it: it was unhealthy. */
  let unhealthy: string | null = null;

  function say(change: Partial<PodReport>): void {
    const next = { ...report, ...change };
    if (next.reason !== null) next.reason = next.reason.slice(0, MAX_REASON);
    if (JSON.stringify(next) === JSON.stringify(report)) return;
    const isUrgent = next.status !== report.status || next.health !== report.health;
    if (next.status !== report.status)
      log(`${desired.podId} (run ${desired.run}) ${next.status}${next.reason ? `: ${next.reason}` : ''}`);
    report = next;
    parts.changed(isUrgent);
  }

  async function converge(mine: readonly Container[]): Promise<void> {
    if (desired.state === 'removed') return removeAll(mine);
    for (const old of mine) if (old.run !== desired.run) await take(old);
    const own = mine.find(({ run }) => run === desired.run);
    if (desired.state === 'stopped') return stop(own);
    if (own?.isRunning) return watch(own);
    if (isEnded()) return;
    if (own === undefined) return begin();
    return own.isNew && report.status !== 'restarting' ? start(own.id) : ended(own);
  }

  async function removeAll(mine: readonly Container[]): Promise<void> {
    if (report.status === 'removed' && mine.length === 0) return;
    if (mine.some(({ isRunning }) => isRunning)) say({ status: 'stopping', reason: null });
    for (const one of mine) await take(one);
    await containers.removeVolumes(desired.podId);
    say({ ...NOTHING, status: 'removed', reason: null });
  }

  /** Of an earlier run, or of a pod that shall not be: it gets its time to end. */
  async function take(one: Container): Promise<void> {
    if (one.isRunning) await containers.stop(one.id, desired.spec.stopGraceSeconds);
    await containers.remove(one.id);
  }

  async function stop(own: Container | undefined): Promise<void> {
    if (report.status === 'stopped' && own?.isRunning !== true) return;
    if (own?.isRunning) {
      say({ status: 'stopping', reason: null });
      await containers.stop(own.id, desired.spec.stopGraceSeconds);
    }
    const facts = own === undefined ? null : await containers.inspect(own.id);
    say({ ...NOTHING, ...endOf(facts), status: 'stopped', reason: null });
  }

  async function begin(): Promise<void> {
    if (monotonicMs() < dueAt) return;
    pulling = new AbortController();
    const { signal } = pulling;
    try {
      const imageDigest = await images.ensure(desired, {
        signal,
        progress: (pullPercent) => say({ status: 'pulling', reason: report.reason, pullPercent }),
      });
      if (signal.aborted) return;
      pullTries = 0;
      say({ status: 'starting', reason: null, pullPercent: null, imageDigest });
      const id = await containers.create(desired);
      await start(id);
    } catch (error) {
      if (signal.aborted) return;
      failBegin(error);
    } finally {
      pulling = null;
    }
  }

  function failBegin(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    if (error instanceof UnfitPod) return say({ ...NOTHING, status: 'failed', reason });
    pullTries += 1;
    const isFinal = (error instanceof PullError && error.isFinal) || isOurFault(error);
    if (isFinal || pullTries >= PULL_TRIES) return say({ ...NOTHING, status: 'failed', reason });
    const delayMs = restartDelayMs(pullTries);
    dueAt = monotonicMs() + delayMs;
    say({
      status: 'pulling',
      pullPercent: null,
      reason: `try ${pullTries} of ${PULL_TRIES} failed, the next in ${delayMs / 1_000} s: ${reason}`,
    });
  }

  async function start(id: string): Promise<void> {
    unhealthy = null;
    health = NOT_ASKED;
    try {
      await containers.start(id);
    } catch (error) {
      // Such as a command that is not in the image: it may be there after a restart of something else.
      return over({
        hasFailed: true,
        exitCode: null,
        reason: error instanceof Error ? error.message : String(error),
        ranMs: 0,
        facts: null,
      });
    }
    startedAt = monotonicMs();
    wasHeld = false;
    factsAt = -Infinity;
    await readFacts(id);
  }

  async function readFacts(id: string): Promise<ContainerFacts | null> {
    const facts = await containers.inspect(id);
    factsAt = monotonicMs();
    if (facts?.isRunning !== true) return facts;
    const isChecked = desired.spec.healthCheck !== null;
    const seen = desired.spec.healthCheck?.probe.kind === 'command' ? facts.health : isChecked ? health.health : null;
    say({
      status: isChecked && seen === 'starting' && report.status !== 'running' ? 'starting' : 'running',
      reason: seen === 'unhealthy' ? (health.reason ?? 'its health check fails') : null,
      health: seen,
      pullPercent: null,
      exitCode: null,
      startedAt: facts.startedAt,
      finishedAt: null,
      ports: facts.ports,
    });
    return facts;
  }

  async function watch(own: Container): Promise<void> {
    if (startedAt === -Infinity) startedAt = monotonicMs(); // an earlier agent started it
    const { healthCheck } = desired.spec;
    if (healthCheck !== null && healthCheck.probe.kind !== 'command' && monotonicMs() >= health.nextAt) {
      if (report.ports.length === 0) await readFacts(own.id);
      const failure = await ask(healthCheck, report.ports);
      const now = monotonicMs();
      health = nextHealth(health, healthCheck, failure, { now, runsForMs: now - startedAt });
      factsAt = -Infinity;
    }
    const isDue =
      report.status !== 'running' || healthCheck?.probe.kind === 'command' || monotonicMs() - factsAt >= FACTS_EVERY_MS;
    if (isDue) await readFacts(own.id);
    if (report.health !== 'unhealthy' || desired.spec.restartPolicy === 'never') return;
    unhealthy = report.reason ?? 'its health check fails';
    await containers.stop(own.id, desired.spec.stopGraceSeconds);
    const facts = await containers.inspect(own.id);
    if (facts !== null && !facts.isRunning) judge(facts);
  }

  async function ended(own: Container): Promise<void> {
    if (wasHeld) return start(own.id);
    if (report.status === 'restarting' && dueAt > 0) {
      if (monotonicMs() < dueAt) return;
      dueAt = 0;
      say({ restarts: report.restarts + 1 });
      return start(own.id);
    }
    const facts = await containers.inspect(own.id);
    if (facts !== null && !facts.isRunning) judge(facts);
  }

  function judge(facts: ContainerFacts): void {
    const { exitCode, isOutOfMemory, startedAt: from, finishedAt: to } = facts;
    const how =
      unhealthy ??
      (isOutOfMemory ? 'it took more memory than it may' : exitCode === 0 ? null : `it ended with ${exitCode}`);
    const ranMs = from === null || to === null ? 0 : Date.parse(to) - Date.parse(from);
    over({ hasFailed: exitCode !== 0 || unhealthy !== null || isOutOfMemory, exitCode, reason: how, ranMs, facts });
  }

  /** It has ended: started again after a while, or at rest. */
  function over(end: {
    hasFailed: boolean;
    exitCode: number | null;
    reason: string | null;
    ranMs: number;
    facts: ContainerFacts | null;
  }): void {
    const { hasFailed, exitCode, reason } = end;
    const facts = { ...NOTHING, ...endOf(end.facts), exitCode };
    if (!isStartedAgain(desired.spec, hasFailed, report.restarts))
      return say({ ...facts, status: hasFailed ? 'failed' : 'exited', reason });
    inARow = end.ranMs >= GOOD_RUN_MS ? 0 : inARow;
    const delayMs = restartDelayMs(inARow++);
    dueAt = monotonicMs() + delayMs;
    say({
      ...facts,
      status: 'restarting',
      reason: `${reason ?? 'it ended with 0'}; started again after ${delayMs / 1_000} s`,
    });
  }

  /** At rest for this run. */
  function isEnded(): boolean {
    return report.status === 'exited' || report.status === 'failed';
  }

  return {
    get desired() {
      return desired;
    },
    want(next) {
      isHeld = false;
      const isOther = next.run !== desired.run;
      const isLess = next.state !== 'running';
      desired = next;
      if (isOther) {
        report = freshReport(next, 0);
        [inARow, pullTries, dueAt, startedAt, factsAt, health, unhealthy] = [
          0,
          0,
          0,
          -Infinity,
          -Infinity,
          NOT_ASKED,
          null,
        ];
        wasHeld = false;
      }
      if (isOther || isLess) pulling?.abort();
    },
    isBusy: () => underWay !== null,
    look(mine) {
      if (isHeld || underWay !== null) return;
      underWay = converge(mine)
        // The engine is away, or busy with it: the next look tries again.
        .catch((error: unknown) => log(`${desired.podId}: ${error instanceof Error ? error.message : String(error)}`))
        .finally(() => {
          underWay = null;
        });
    },
    report: () => ({ ...report }),
    restarts: () => report.restarts,
    forget() {
      isHeld = true;
      pulling?.abort();
    },
    async hold(mine) {
      isHeld = true;
      wasHeld = true;
      pulling?.abort();
      await underWay;
      for (const one of mine)
        if (one.isRunning) await containers.stop(one.id, Math.min(10, desired.spec.stopGraceSeconds));
      if (!isEnded()) say({ ...NOTHING, status: 'stopped', reason: 'the agent ended it' });
    },
  };
}

const NOTHING = { health: null, pullPercent: null, ports: [] } satisfies Partial<PodReport>;

function freshReport({ podId, run }: DesiredPod, restarts: number): PodReport {
  return {
    podId,
    run,
    status: 'starting',
    reason: null,
    restarts,
    exitCode: null,
    imageDigest: null,
    startedAt: null,
    finishedAt: null,
    ...NOTHING,
  };
}

function endOf(facts: ContainerFacts | null): Partial<PodReport> {
  if (facts === null) return {};
  const { exitCode, startedAt, finishedAt } = facts;
  return { exitCode: startedAt === null ? null : exitCode, startedAt, finishedAt };
}

/** The engine refuses what it was asked: it would refuse it again. */
function isOurFault(error: unknown): boolean {
  const status = (error as { status?: unknown }).status;
  return typeof status === 'number' && status >= 400 && status < 500;
}
