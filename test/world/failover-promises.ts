/**
 * What failover promises, judged after each moment of its world by what machines, vendors and the store really have: one writer, no
 * failover that was not needed, no old data without an alarm, nothing restored or destroyed on a copy that was not proven.
 */
import { STORM_WINDOW_MS } from '../../domain/failover.ts';
import { STORM_LIMIT, type FailoverFleet } from './failover-fleet.ts';
import type { Story } from './failover-script.ts';
import type { Machine } from './machine.ts';
import type { Rented } from './machine-vendors.ts';
import { isSameWork, sizeOfWork } from './work.ts';

export interface FailoverJudge {
  /** New problems, each told once. @param stepMs how long ago the last judgement was */
  judge(stepMs: number): Promise<string[]>;
  /** People go where the endpoint says: workloads begin there. */
  followEndpoints(): Promise<void>;
  readonly alarms: number;
}

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
/** Since it was last out of reach: what was judged then is told now. */
const LATELY_MS = 20_000;
/** Beats and ticks that a moment may be late by. */
const SLACK_MS = 15_000;

interface WorkspaceFact {
  id: string;
  status: string;
  epoch: number;
  every: string | null;
  behind_since: Date | null;
  writer_attempt_id: string | null;
  writer_standby_id: string | null;
  writer_node_id: string | null;
  /** Of a standby that serves while the machine that replaces it is restored. */
  unsaved_node_id: string | null;
  newest_at: Date | null;
}

interface StandbyFact {
  id: string;
  instance_id: string;
  status: string;
  rpo_ms: string;
  behind_since: Date | null;
  has_finding: boolean;
  created_at: Date;
}

export function createFailoverJudge(fleet: FailoverFleet, story: Story, tell: (line: string) => void): FailoverJudge {
  const told = new Set<string>();
  const writers = new Map<string, string>();
  const epochs = new Map<string, number>();
  const failovers = new Set<string>();
  const verified = new Set<string>();
  const behind = new Set<string>();
  /** Since when a machine works that is not the writer, by the clock of machines. */
  const strays = new Map<Machine, number>();
  const owners = new Map<Machine, string>();
  const writing = new Map<string, { key: string; since: number }>();
  const late: string[] = [];
  let seen = 0;
  let alarms = 0;
  let lastSummary = '';

  fleet.vendor.onDestroy = (rented) => pending.push(judgeDestroy(fleet, rented).then((found) => late.push(...found)));
  const pending: Promise<unknown>[] = [];

  async function judge(stepMs: number): Promise<string[]> {
    await Promise.all(pending.splice(0));
    const workspaces = await readWorkspaces(fleet);
    const summary = workspaces.map((one) => `${one.id.slice(0, 8)} ${one.status}/${one.epoch}`).join(', ');
    if (summary !== lastSummary) tell(summary);
    lastSummary = summary;
    followWriters(workspaces);
    const problems = [
      ...late.splice(0),
      ...fleet.machines().flatMap((machine) => machine.problems),
      ...judgePublications(),
      ...(await judgeWriters(workspaces, stepMs)),
      ...(await judgeFailovers()),
      ...judgeSchedules(workspaces, stepMs),
      ...(await judgeStandbys(workspaces, stepMs)),
      ...(await judgeVerified()),
    ];
    const fresh = problems.filter((problem) => !told.has(problem));
    for (const problem of fresh) told.add(problem);
    return fresh;
  }

  /** Of an epoch one node adds, and no older epoch adds after a newer one did. */
  function judgePublications(): string[] {
    const fresh = fleet.store.publications.slice(seen);
    seen = fleet.store.publications.length;
    return fresh.flatMap(({ instanceId, nodeId, epoch, snapshotId }) => {
      const line = `${instanceId} epoch ${epoch}`;
      const writer = writers.get(line) ?? nodeId;
      writers.set(line, writer);
      const newest = epochs.get(instanceId) ?? 0;
      epochs.set(instanceId, Math.max(newest, epoch));
      if (writer !== nodeId) return [`${line}: ${writer} and ${nodeId} both wrote`];
      return epoch < newest ? [`${snapshotId} of epoch ${epoch} was taken after epoch ${newest} wrote`] : [];
    });
  }

  /** Whoever works and is not the writer has not been answered since, and not for longer than its dead man's time. */
  async function judgeWriters(workspaces: WorkspaceFact[], stepMs: number): Promise<string[]> {
    const problems: string[] = [];
    const now = fleet.time.nowMs();
    for (const machine of fleet.machines()) {
      const owner = workspaces.find(({ id }) => id === owners.get(machine));
      const isWriter = owner !== undefined && owner.writer_node_id === machine.nodeId;
      if (!machine.isWorking || machine.power !== 'on' || isWriter || !owner) {
        strays.delete(machine);
        continue;
      }
      const since = strays.get(machine) ?? now - stepMs;
      strays.set(machine, since);
      const { lastToken, name } = machine;
      if (lastToken && (await fleet.store.tryToken(lastToken.token, lastToken.instanceId)) === 'open')
        problems.push(`${name} may still write the snapshots of ${owner.id}`);
      if (!machine.isAgentUp) continue;
      const silentMs = now - Math.max(machine.answeredAt, since);
      // It serves on until the machine that replaces it is restored; that nothing of it is saved is the schedule's to tell.
      const isReplaced = owner.unsaved_node_id === machine.nodeId;
      if (machine.answeredAt > since + SLACK_MS + stepMs && !isReplaced)
        problems.push(`${name} was answered after it lost ${owner.id}, and works on`);
      if (silentMs > fleet.deadManMs + SLACK_MS + stepMs)
        problems.push(`${name} works ${Math.round(silentMs / 1_000)} s after it was last answered`);
    }
    return problems;
  }

  /** By themselves only what was out of reach, within its policy and the deployment's limit. */
  async function judgeFailovers(): Promise<string[]> {
    const { rows } = await fleet.database.pool.query<{
      id: string;
      instance_id: string;
      lost_node_id: string | null;
      created_at: Date;
      reasons: string[];
      max_per_day: number;
    }>(
      `select f.id, f.instance_id, f.lost_node_id, f.created_at, f.reasons, p.max_per_day
       from failovers f join failover_policies p on p.instance_id = f.instance_id
       where f.cause = 'detected' order by f.created_at`,
    );
    const problems: string[] = [];
    const now = fleet.time.nowMs();
    for (const [index, row] of rows.entries()) {
      if (failovers.has(row.id)) continue;
      failovers.add(row.id);
      tell(`${row.id} of ${row.instance_id}: ${row.reasons.join('; ')}`);
      const machine = fleet.machines().find((one) => one.nodeId === row.lost_node_id);
      const why = row.reasons.join('; ');
      if (machine && now - machine.unreachableAt > LATELY_MS)
        problems.push(`${row.id} took ${row.instance_id} from ${machine.name}, which lived: ${why}`);
      if (machine && now < story.blipUntil && machine.power === 'on')
        problems.push(`${row.id} took ${row.instance_id} from ${machine.name} while all were cut off: ${why}`);
      const before = rows.slice(0, index + 1);
      const today = before.filter(
        (one) => one.instance_id === row.instance_id && +row.created_at - +one.created_at < DAY,
      );
      if (today.length > row.max_per_day)
        problems.push(`${row.instance_id} failed over ${today.length} times in a day`);
      const storm = before.filter((one) => Math.abs(+row.created_at - +one.created_at) < STORM_WINDOW_MS);
      if (storm.length > STORM_LIMIT) problems.push(`${storm.length} failovers within ten minutes`);
    }
    return problems;
  }

  /** Since when each workspace has the writer that it has, as it was seen here: what is older was restored by it. */
  function followWriters(workspaces: WorkspaceFact[]): void {
    for (const workspace of workspaces) {
      const { id, epoch, unsaved_node_id: unsavedId } = workspace;
      const writer = workspace.writer_attempt_id ?? workspace.writer_standby_id;
      const key = `${writer} in ${epoch}`;
      if (writer === null && unsavedId !== null) continue;
      if (writer === null) writing.delete(id);
      else if (writing.get(id)?.key !== key) writing.set(id, { key, since: fleet.now().getTime() });
    }
  }

  /** What is older than its promise, and is written by somebody, says so. */
  function judgeSchedules(workspaces: WorkspaceFact[], stepMs: number): string[] {
    if (!fleet.isUp) return [];
    const now = fleet.now().getTime();
    return workspaces.flatMap(({ id, status, every, behind_since: since, newest_at: newestAt }) => {
      count(id, since);
      const writer = writing.get(id);
      if (!['ready', 'creating', 'booting'].includes(status) || every === null || !writer) return [];
      const ageMs = now - Math.max(newestAt?.getTime() ?? 0, writer.since);
      const isOld = ageMs > Number(every) + SLACK_MS + stepMs;
      return isOld && since === null
        ? [`${id} has nothing younger than ${Math.round(ageMs / 1_000)} s, and no alarm`]
        : [];
    });
  }

  async function judgeStandbys(workspaces: WorkspaceFact[], stepMs: number): Promise<string[]> {
    const { rows } = await fleet.database.pool.query<StandbyFact>(
      `select s.id, s.instance_id, s.status, s.rpo_ms, s.behind_since,
         exists (select from findings f where f.class = 'standby_behind' and f.provider_instance_id = s.id
           and f.status in ('open', 'resolving')) as has_finding, s.created_at
       from standbys s where s.removed_at is null`,
    );
    if (!fleet.isUp) return [];
    const now = fleet.now().getTime();
    return rows.flatMap((row) => {
      count(row.id, row.behind_since);
      const workspace = workspaces.find(({ id }) => id === row.instance_id);
      const writtenAt = workspace === undefined ? null : (writing.get(workspace.id)?.since ?? null);
      const ageMs = now - Math.max((workspace?.newest_at ?? row.created_at).getTime(), writtenAt ?? 0);
      const isOld = writtenAt !== null && ageMs > Number(row.rpo_ms) + SLACK_MS + stepMs;
      const isWatched = ['warm', 'stopped', 'promoting', 'serving', 'demoting'].includes(row.status);
      if (isOld && isWatched && row.behind_since === null)
        return [`${row.id} would serve what is ${Math.round(ageMs / 1_000)} s old, and says nothing`];
      return row.behind_since !== null && !row.has_finding ? [`${row.id} is behind without a finding`] : [];
    });
  }

  function count(id: string, since: Date | null): void {
    if (since === null) behind.delete(id);
    else if (!behind.has(id)) {
      behind.add(id);
      alarms++;
    }
  }

  /** Verified is what was whole when it was read back, and holds all that was written before its moment. */
  async function judgeVerified(): Promise<string[]> {
    const { rows } = await fleet.database.pool.query<{ id: string; verified_at: Date; verified_bytes: string }>(
      `select id, verified_at, verified_bytes from snapshots where status = 'verified' and not (id = any($1))`,
      [[...verified]],
    );
    return rows.flatMap((row) => {
      verified.add(row.id);
      const stored = fleet.store.find(row.id);
      if (!stored) return [`${row.id} is verified and not in the store`];
      if (Number(row.verified_bytes) !== sizeOfWork(stored.work)) return [`${row.id} is verified with other bytes`];
      return stored.damagedAt !== null && stored.damagedAt < row.verified_at.getTime() - 1
        ? [`${row.id} is verified and was damaged before`]
        : [];
    });
  }

  return {
    judge,
    async followEndpoints() {
      const { rows } = await fleet.database.pool.query<{ id: string; status: string; kind: string; node_id: string }>(
        `select i.id, i.status, e.kind, e.node_id from endpoints e join instances i on i.id = e.instance_id order by i.id`,
      );
      const served = new Set(rows.filter(({ kind }) => kind === 'standby').map((row) => row.node_id));
      for (const machine of fleet.machines())
        if (machine.kind === 'standby' && !served.has(machine.nodeId ?? '')) machine.isWorking = false;
      for (const { id, status, kind, node_id: nodeId } of rows) {
        const machine = fleet.machines().find((one) => one.nodeId !== null && one.nodeId === nodeId);
        const isOpen = kind === 'standby' || (kind === 'instance' && status === 'ready');
        if (!machine || !isOpen || machine.power !== 'on' || machine.isWorking || machine.isStopped) continue;
        const isFirst = ![...owners.values()].includes(id);
        const isKnown = owners.get(machine) === id && machine.kind === 'rented';
        if (!isFirst && !isKnown) late.push(...(await judgeStart(fleet, id, machine)));
        owners.set(machine, id);
        machine.isWorking = true;
      }
    },
    get alarms() {
      return alarms;
    },
  };
}

/** A workload goes on with what a proven snapshot was, the newest that there was. */
async function judgeStart(fleet: FailoverFleet, instanceId: string, machine: Machine): Promise<string[]> {
  const { restored, name } = machine;
  if (restored === null) return [`${name} was handed out for ${instanceId} without its files`];
  const { rows } = await fleet.database.pool.query<{ data_at: Date; verified_at: Date | null; best: Date | null }>(
    `select data_at, verified_at,
       (select max(data_at) from snapshots b where b.instance_id = s.instance_id and b.status = 'verified' and b.verified_at < $2) as best
     from snapshots s where id = $1`,
    [restored.snapshotId, new Date(restored.at.getTime() - MINUTE)],
  );
  const [row] = rows;
  const stored = fleet.store.find(restored.snapshotId);
  if (!row || row.verified_at === null) return [`${name} has ${restored.snapshotId}, which was never verified`];
  const problems: string[] = [];
  if (stored && !isSameWork(stored.work, restored.work)) problems.push(`${name} has not what ${stored.snapshotId} was`);
  if (!isSameWork(machine.work, restored.work)) problems.push(`the files of ${name} were changed since their restore`);
  if (row.best !== null && row.best > row.data_at)
    problems.push(
      `${name} has ${restored.snapshotId} of ${row.data_at.toISOString()}, and there was one of ${row.best.toISOString()}`,
    );
  return problems;
}

/** A machine is only put to sleep when all that it has is in a whole snapshot. */
async function judgeDestroy(fleet: FailoverFleet, { label, machine }: Rented): Promise<string[]> {
  const work = structuredClone(machine.work);
  const { rows } = await fleet.database.pool.query<{
    id: string;
    failure_code: string | null;
    status: string;
    snapshot_id: string | null;
  }>(
    `select a.id, a.failure_code, a.status, (select h.snapshot_id from hibernations h where h.attempt_id = a.id
       order by h.began_at desc limit 1) as snapshot_id from attempts a where a.label = $1`,
    [label],
  );
  const [row] = rows;
  if (!row) return [`${machine.name} was destroyed without a record`];
  if (row.status !== 'destroying' && row.status !== 'gone')
    return [`${machine.name} was destroyed while ${row.status}`];
  if (row.failure_code !== 'hibernated') return [];
  const stored = row.snapshot_id === null ? undefined : fleet.store.find(row.snapshot_id);
  return stored && isSameWork(stored.work, work) ? [] : [`${machine.name} sleeps, and its snapshot is not what it had`];
}

async function readWorkspaces({ database }: FailoverFleet): Promise<WorkspaceFact[]> {
  const { rows } = await database.pool.query<WorkspaceFact>(
    `select i.id, i.status, w.epoch, w.snapshot_every_ms as every, w.behind_since, w.writer_attempt_id, w.writer_standby_id,
       (select n.id from nodes n where n.attempt_id = w.writer_attempt_id or n.standby_id = w.writer_standby_id limit 1) as writer_node_id,
       (select n.id from failovers f join nodes n on n.standby_id = f.standby_id
        where f.instance_id = i.id and f.finished_at is null and f.phase = 'restoring' and f.mode = 'standby') as unsaved_node_id,
       (select max(data_at) from snapshots s where s.instance_id = i.id and s.status = 'verified') as newest_at
     from workspaces w join instances i on i.id = w.instance_id`,
  );
  return rows;
}
