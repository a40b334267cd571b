/**
 * The failover world: some hours of instances with failover policies, their agents, workloads, snapshots and standbys, while hosts die and
 * come back, networks part, stores damage, clouds have no room and the control plane itself is away, from one seed. After each moment every
 * promise is judged; at the end everything serves again and nothing is left over.
 */
import { acceptDestroy } from '../../db/accept-destroy.ts';
import { inTransaction } from '../../db/database.ts';
import type { VirtualServer } from '../support/virtual-database.ts';
import { createSeededRandom } from '../support/seeded-random.ts';
import { HEARTBEAT_MS, startFailoverFleet, type FailoverFleet } from './failover-fleet.ts';
import { createFailoverJudge, type FailoverJudge } from './failover-promises.ts';
import {
  ACTOR,
  doDeed,
  endTroubles,
  setUp,
  writeScript,
  type Deed,
  type ScriptedDeed,
  type Story,
} from './failover-script.ts';

export interface FailoverWorldOptions {
  seed: number;
  server: VirtualServer;
  hours?: number;
  deeds?: number;
  /** @default of all kinds */
  only?: readonly Deed[] | undefined;
  trace?: (line: string) => void;
}

export interface FailoverWorldReport {
  seed: number;
  steps: number;
  virtualHours: number;
  failovers: number;
  takeovers: number;
  sleeps: number;
  snapshots: number;
  failedSnapshots: number;
  /** Uploads and old tokens that were refused. */
  fenced: number;
  alarms: number;
  refusals: number;
  problems: string[];
  evidence: string[];
}

const SECOND = 1_000;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const QUIET_MS = 5 * MINUTE;
const SETUP_STEPS = 100;
/** Longer than the day within which a policy's failovers are counted. */
const CALM_MS = 26 * HOUR;

export async function runFailoverWorld(options: FailoverWorldOptions): Promise<FailoverWorldReport> {
  const { seed } = options;
  const fleet = await startFailoverFleet(seed, options.server);
  const story: Story = { ends: [], blipUntil: 0 };
  const lines: string[] = [];
  const problems: string[] = [];
  const startedAt = fleet.time.nowMs();
  const tell = (text: string): void => {
    const line = `${((fleet.time.nowMs() - startedAt) / HOUR).toFixed(3)} h: ${text}`;
    lines.push(line);
    options.trace?.(line);
  };
  const judge = createFailoverJudge(fleet, story, tell);
  const world: World = { fleet, story, judge, steps: 0, tell };
  try {
    await setUp(fleet);
    problems.push(...(await untilServed(world)));
    const begunAt = fleet.time.nowMs();
    const lengthMs = (options.hours ?? 2) * HOUR;
    const { deeds = 5, only } = options;
    const script = writeScript(createSeededRandom(seed + 1), { lengthMs, deeds, only });
    const elapsed = () => fleet.time.nowMs() - begunAt;
    while (elapsed() < lengthMs && problems.length === 0) {
      for (const { deed } of takeDue(script, elapsed())) world.tell(await doDeed(fleet, deed, story));
      problems.push(...(await step(world, await nextPause(world, script, elapsed()))));
    }
    if (problems.length === 0) problems.push(...(await calmDown(world)));
    return {
      ...(await report(fleet)),
      seed,
      steps: world.steps,
      virtualHours: (fleet.time.nowMs() - startedAt) / HOUR,
      fenced: fleet.store.fenced,
      alarms: judge.alarms,
      refusals: fleet.cloud.refusals,
      problems,
      evidence: problems.length > 0 ? [...lines.slice(-40), ...(await describe(fleet))] : [],
    };
  } finally {
    await fleet.close();
  }
}

interface World {
  fleet: FailoverFleet;
  story: Story;
  judge: FailoverJudge;
  steps: number;
  tell: (line: string) => void;
}

/** Time passes, everybody lives, people follow, and all of it is judged. */
async function step(world: World, ms: number): Promise<string[]> {
  const { fleet, story, judge } = world;
  world.steps++;
  await fleet.pass(ms);
  const now = fleet.time.nowMs();
  const over = story.ends.filter(({ at }) => at <= now);
  story.ends = story.ends.filter(({ at }) => at > now);
  for (const { end } of over) await end();
  await fleet.live();
  await judge.followEndpoints();
  const problems = await judge.judge(ms);
  for (const problem of problems) world.tell(`PROBLEM ${problem}`);
  return problems;
}

function takeDue(script: ScriptedDeed[], elapsedMs: number): ScriptedDeed[] {
  const later = script.findIndex((one) => one.atMs > elapsedMs);
  return script.splice(0, later === -1 ? script.length : later);
}

/** Short while something happens, long while nothing does, never past what is due. */
async function nextPause({ fleet, story }: World, script: ScriptedDeed[], elapsedMs: number): Promise<number> {
  const now = fleet.time.nowMs();
  const toDeed = (script[0]?.atMs ?? Infinity) - elapsedMs;
  const toEnd = Math.min(Infinity, ...story.ends.map(({ at }) => at - now));
  const wanted = await wantedPause(fleet);
  return Math.max(SECOND, Math.min(wanted, toDeed + 1, toEnd));
}

async function wantedPause(fleet: FailoverFleet): Promise<number> {
  if (!fleet.isUp) return 30 * SECOND;
  const { rows } = await fleet.database.pool.query<Pause>(
    `select exists (select from node_watches w join nodes n on n.id = w.node_id
         where w.verdict = 'suspect' and w.since > now() - interval '100 seconds')
       or exists (select from nodes n join instances i on i.winner_attempt_id = n.attempt_id
         where i.status = 'ready' and n.heartbeat_at < now() - $1 * interval '1 millisecond'
           and n.heartbeat_at > now() - interval '70 seconds') as doubts,
       (select extract(epoch from min(wait_until) - now()) * 1000 from operations
         where status in ('queued', 'running'))::float8 as wait_ms,
       exists (select from instances where status in ('requested', 'creating', 'booting', 'waking', 'hibernating')) as busy`,
    [HEARTBEAT_MS],
  );
  const { doubts = false, wait_ms: waitMs = null, busy = false } = rows[0] ?? {};
  if (doubts) return 6 * SECOND;
  const unheard = fleet.machines().some((one) => one.isCutOff || one.power === 'dead');
  const booting = fleet.machines().filter(({ power }) => power === 'booting');
  const toBoot = Math.min(Infinity, ...booting.map(({ upAt }) => upAt - fleet.time.nowMs()));
  // While something boots nothing else goes on; an agent's word comes with its beat.
  if (busy && toBoot !== Infinity) return Math.min(30 * SECOND, Math.max(SECOND, toBoot + SECOND));
  const longest = unheard ? MINUTE : QUIET_MS;
  return waitMs === null ? longest : Math.min(longest, Math.max((busy ? 6 : 30) * SECOND, waitMs + 1));
}

interface Pause {
  doubts: boolean;
  wait_ms: number | null;
  busy: boolean;
}

async function untilServed(world: World): Promise<string[]> {
  for (let left = SETUP_STEPS; left > 0; left--) {
    const problems = await step(world, Math.min(30 * SECOND, await wantedPause(world.fleet)));
    if (problems.length > 0) return problems;
    if ((await listUnserved(world.fleet)).length === 0) return [];
  }
  return [`the beginning did not come about: ${(await listUnserved(world.fleet)).join('; ')}`];
}

/** All trouble is over: what is not as it should be after a while is a broken promise. */
async function calmDown(world: World): Promise<string[]> {
  const { fleet, story } = world;
  await endTroubles(fleet, story);
  world.tell('all is well again');
  const from = fleet.time.nowMs();
  let unserved: string[] = [];
  while (fleet.time.nowMs() - from < CALM_MS) {
    // The limit of a day may hold a failover back: then a day has to pass.
    const isLate = fleet.time.nowMs() - from > 2 * HOUR;
    const wanted = await wantedPause(fleet);
    // People ask for it as long as a standby serves: the next loss may have been found only now.
    await fleet.database.pool.query(
      `update failovers set failback_requested_at = now() where finished_at is null and failback_requested_at is null`,
    );
    await giveUpHopeless(world);
    const problems = await step(world, isLate ? Math.max(wanted, 15 * MINUTE) : wanted);
    if (problems.length > 0) return problems;
    unserved = [...(await listUnserved(fleet)), ...(await listLeft(fleet))];
    if (unserved.length === 0) return [];
  }
  return unserved.map((one) => `at the end: ${one}`);
}

/** What rotted in the store before its machine died is lost: it is told, nothing empty is handed out, and people destroy it. */
async function giveUpHopeless({ fleet, tell }: World): Promise<void> {
  const { rows } = await fleet.database.pool.query<{ id: string }>(
    `select i.id from instances i join failovers f on f.instance_id = i.id join operations o on o.id = f.operation_id
     where f.finished_at is null and i.status = 'creating' and o.note like 'none of its snapshots holds%'`,
  );
  for (const { id } of rows) {
    tell(`${id} is given up`);
    const order = { orgId: null, instanceId: id, actor: ACTOR, reason: 'its files are lost' };
    await inTransaction(fleet.db, (tx) => acceptDestroy(tx, fleet.queue, order));
  }
}

/** Instances that do not serve and standbys that are not at rest in sync; those that sleep are well. */
async function listUnserved(fleet: FailoverFleet): Promise<string[]> {
  const { rows } = await fleet.database.pool.query<{
    what: string;
    node_id: string | null;
    kind: string | null;
    status: string;
  }>(
    `select i.id || ' is ' || i.status || ': ' || coalesce(i.note, '') as what, i.status, e.node_id, e.kind
     from instances i left join endpoints e on e.instance_id = i.id`,
  );
  const unserved = rows
    .filter(({ status, kind, node_id: nodeId }) => {
      if (status === 'hibernated' || status === 'destroyed') return false;
      const machine = fleet.machines().find((one) => one.nodeId !== null && one.nodeId === nodeId);
      return status !== 'ready' || kind !== 'instance' || machine?.isWorking !== true || machine.power !== 'on';
    })
    .map(({ what, kind }) => `${what}, endpoint ${kind}`);
  const { rows: others } = await fleet.database.pool.query<{ what: string }>(
    `with kept as (select s.* from standbys s join instances i on i.id = s.instance_id where i.status <> 'destroyed')
     select 'standby ' || s.id || ' is ' || s.status as what from kept s where s.status not in ('warm', 'stopped')
     union all select 'standby ' || s.id || ' is behind: ' || s.behind_reason from kept s where s.behind_since is not null
     union all select 'standby ' || s.id || ' is not synced: ' || coalesce(s.sync_failure, '') from kept s
       where s.status = 'warm' and s.synced_snapshot_id is null
     union all select 'workspace of ' || w.instance_id || ' is behind' from workspaces w join instances i on i.id = w.instance_id
       where w.behind_since is not null and i.status = 'ready'
     union all select 'workspace of ' || w.instance_id || ' has no snapshot' from workspaces w join instances i on i.id = w.instance_id
       where i.status <> 'destroyed' and not exists (select from snapshots s where s.instance_id = w.instance_id and s.status = 'verified')`,
  );
  return [...unserved, ...others.map((row) => row.what)];
}

/** Machines without a row that wants them, and work that does not end. */
async function listLeft(fleet: FailoverFleet): Promise<string[]> {
  const { rows } = await fleet.database.pool.query<{ label: string }>(
    `select a.label from attempts a join instances i on i.winner_attempt_id = a.id where a.status = 'ready' and i.status = 'ready'`,
  );
  const wanted = new Set(rows.map((row) => row.label));
  const left = fleet.vendor.rented().filter(({ label }) => !wanted.has(label));
  const { rows: open } = await fleet.database.pool.query<{ what: string }>(
    `select 'failover ' || id || ' is ' || phase as what from failovers where finished_at is null
     union all select 'finding ' || class || ' ' || coalesce(provider_instance_id, '') || ' is ' || status from findings
       where status in ('open', 'resolving') and instance_id not in (select id from instances where status = 'destroyed')
     union all select kind || ' ' || id || ' is ' || status || ': ' || coalesce(note, '') from operations
       where status in ('queued', 'running') and kind not in ('take_snapshot', 'restore_workspace', 'delete_snapshot')
     union all select 'attempt ' || id || ' is ' || status from attempts where status not in ('gone', 'ready')`,
  );
  return [...left.map(({ machine, label }) => `${machine.name} (${label}) is left`), ...open.map((row) => row.what)];
}

type Counts = Pick<FailoverWorldReport, 'failovers' | 'takeovers' | 'sleeps' | 'snapshots' | 'failedSnapshots'>;

async function report(fleet: FailoverFleet): Promise<Counts> {
  const { rows } = await fleet.database.pool.query<Record<string, string>>(
    `select (select count(*) from failovers) as failovers,
       (select count(*) from failovers where mode = 'standby' and serving_at is not null) as takeovers,
       (select count(*) from hibernations where slept_at is not null) as sleeps,
       (select count(*) from snapshots where verified_at is not null) as snapshots,
       (select count(*) from snapshots where status = 'failed') as failed`,
  );
  const [row] = rows;
  return {
    failovers: Number(row?.['failovers']),
    takeovers: Number(row?.['takeovers']),
    sleeps: Number(row?.['sleeps']),
    snapshots: Number(row?.['snapshots']),
    failedSnapshots: Number(row?.['failed']),
  };
}

const LONGEST = 600;

/** Rows that tell what happened. */
async function describe(fleet: FailoverFleet): Promise<string[]> {
  const queries = {
    instances: `select id, name, status, phase, note, winner_attempt_id, restore_snapshot_id, restore_operation_id, operation_id, ready_at from instances`,
    workspaces: `select instance_id, epoch, generation, writer_attempt_id, writer_standby_id, behind_since, pruning_operation_id from workspaces`,
    nodes: `select id, attempt_id, standby_id, fenced_at, heartbeat_at, powering_off_at from nodes`,
    watches: `select * from node_watches`,
    failovers: `select id, instance_id, cause, mode, phase, phase_at, reasons, note, failure_detail, lost_attempt_id, lost_node_id, snapshot_id, failback from failovers order by created_at`,
    standbys: `select id, instance_id, status, state, promotion, failure_detail, synced_snapshot_id, sync_failure, behind_since, behind_reason from standbys`,
    snapshots: `select id, instance_id, node_id, epoch, generation, status, cause, failure_code, failure_detail, data_at, verified_at, created_at from snapshots order by created_at desc limit 25`,
    operations: `select id, kind, status, note, error_detail, wait_until, created_at from operations where status in ('queued', 'running') or created_at > now() - interval '1 hour' order by created_at desc limit 30`,
    attempts: `select id, instance_id, status, provider_instance_id, failure_code, failure_detail, observed_status, created_at from attempts order by created_at`,
    orders: `select id, node_id, kind, status, progress, error_code, error_detail, created_at, finished_at from node_orders order by created_at desc limit 10`,
    findings: `select class, provider_instance_id, status, detail from findings`,
    provider: `select name, instances_problem, instances_count, instances_seen_at, offers_problem from providers`,
  };
  const lines = [`now ${fleet.now().toISOString()}`];
  for (const [title, text] of Object.entries(queries)) {
    const { rows } = await fleet.database.pool.query<Record<string, unknown>>(text);
    lines.push(`${title}:`, ...rows.map((row) => `  ${show(row)}`));
  }
  for (const one of fleet.machines().filter(({ power }) => power !== 'gone')) {
    const { name, power, nodeId, isCutOff, isWorking, isAgentUp, isStopped } = one;
    lines.push(`machine ${show({ name, power, nodeId, isCutOff, isWorking, isAgentUp, isStopped })}`);
  }
  return [...lines, ...fleet.errors.slice(-5).map((line) => line.slice(0, LONGEST))];
}

function show(row: Record<string, unknown>): string {
  const known = Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null));
  const text = JSON.stringify(known, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}
