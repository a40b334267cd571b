/**
 * The world: a virtual week of the whole control plane over four providers with all their faults, two replicas that crash anywhere, people,
 * other people and restored backups, from one seed. After each step every promise is judged; at the end nothing of ours may be left.
 *
 * The seed fixes the script, the faults and the vendors' draws. Two replicas and a real Postgres run for real, so the order of what
 * happens at once is theirs: a seed repeats its week, not each of its interleavings.
 */
import type { TickCounts } from '../../automation/cron/scheduler.ts';
import { setProviderEnabled } from '../../db/providers.ts';
import { PROVIDER_NAMES } from '../../domain/provider.ts';
import { createSeededRandom } from '../support/seeded-random.ts';
import type { VirtualServer } from '../support/virtual-database.ts';
import { startWorldFleet, type CronName, type WorldFleet } from './world-fleet.ts';
import { collectEvidence } from './world-evidence.ts';
import { createJudge, type Judge } from './world-promises.ts';
import { doDeed, endInstance, writeScript, type Excuses, type ScriptedDeed } from './world-script.ts';

export interface WorldOptions {
  seed: number;
  server: VirtualServer;
  hours?: number;
  deeds?: number;
  /** Told each step, for people who look for something. */
  trace?: (line: string) => void;
}

export interface WorldReport {
  seed: number;
  steps: number;
  virtualHours: number;
  crashes: number;
  bought: number;
  destroyed: number;
  ready: number;
  orphans: number;
  findings: number;
  problems: string[];
  /** What is known of attempts and machines that the problems name, because the next run of the seed may go another way. */
  evidence: string[];
}

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
/** The longest jump: longer ones would leave out ticks that matter (spells last some hours). */
const MAX_JUMP_MS = 4 * HOUR;
const CALM_STEPS = 60;
const DEEDS_A_WEEK = 60;

export async function runWorld(options: WorldOptions): Promise<WorldReport> {
  const { seed } = options;
  const fleet = await startWorldFleet(seed, options.server);
  const judge = createJudge(fleet);
  const excuses: Excuses = { labels: new Set(), foreign: new Map(), taken: new Set() };
  const problems: string[] = [];
  const story: string[] = [];
  const trace = (line: string): void => {
    story.push(line);
    options.trace?.(line);
  };
  let steps = 0;
  try {
    const startedAt = fleet.clock.now().getTime();
    const lengthMs = (options.hours ?? 168) * HOUR;
    const script = writeScript(createSeededRandom(seed + 1), lengthMs, options.deeds ?? DEEDS_A_WEEK);
    fleet.crashChance = fleet.random.pick([0, 0.01, 0.03]);
    for (const { id, provider } of fleet.vendors.machines()) excuses.foreign.set(id, provider);
    const elapsed = () => fleet.clock.now().getTime() - startedAt;
    while (elapsed() < lengthMs) {
      const due = takeDue(script, elapsed());
      for (const { deed } of due) await doDeed(fleet, deed, excuses);
      problems.push(...(await step(fleet, judge, excuses)));
      steps++;
      trace(
        `${(elapsed() / HOUR).toFixed(1)} h: ${due.map(({ deed }) => deed).join(' ') || '-'} ${problems.join('; ')}`,
      );
      if (problems.length > 0) break;
      await fleet.clock.advance(await nextJump(fleet, script, elapsed()));
    }
    if (problems.length === 0) problems.push(...(await calmDown(fleet, judge, excuses, trace)));
    return {
      ...(await report(fleet)),
      seed,
      steps,
      bought: judge.bought,
      destroyed: judge.destroyed,
      orphans: judge.orphans,
      virtualHours: elapsed() / HOUR,
      problems,
      evidence: problems.length > 0 ? [...story.slice(-15), ...(await collectEvidence(fleet, problems))] : [],
    };
  } finally {
    await fleet.close();
  }
}

/** One moment: every cron that is due now, then everything that follows, then the judgement. */
async function step(fleet: WorldFleet, judge: Judge, excuses: Excuses): Promise<string[]> {
  fleet.vendors.endSpells();
  // Offers are most of a tick's work, and nobody looks at them while nothing is to be bought.
  if ((await isAny(fleet, ['requested', 'creating', 'booting', 'lost'])) || fleet.random.chance(0.15))
    await tick(fleet, 'sync');
  const order: CronName[] = ['readiness', 'reconcile', 'interruptible', 'expire', 'stuck', 'usage'];
  for (const name of order) {
    await tick(fleet, name);
    if (name === 'readiness' || name === 'interruptible') await fleet.settle();
  }
  await fleet.settle();
  return judge.judge(excuses);
}

async function tick(fleet: WorldFleet, name: CronName): Promise<TickCounts> {
  const counts = await fleet.tick(name);
  const failed = Object.keys(counts).filter((key) => key.endsWith('.failed'));
  if (failed.length > 0) throw new Error(`${name} failed: ${failed.join(', ')}; ${fleet.errors.at(-1) ?? ''}`);
  return counts;
}

function takeDue(script: ScriptedDeed[], elapsedMs: number): ScriptedDeed[] {
  const later = script.findIndex((one) => one.atMs > elapsedMs);
  return script.splice(0, later === -1 ? script.length : later);
}

async function isAny(fleet: WorldFleet, status: string[]): Promise<boolean> {
  const { rows } = await fleet.database.pool.query<{ found: boolean }>(
    `select exists (select from instances where status = any($1)) as found`,
    [status],
  );
  return rows[0]?.found === true;
}

/** Short steps while something is on its way, long ones through quiet times, never past the next deed. */
async function nextJump(fleet: WorldFleet, script: ScriptedDeed[], elapsedMs: number): Promise<number> {
  const { rows } = await fleet.database.pool.query<{ busy: boolean }>(
    `select exists (select from instances where status in ('requested', 'creating', 'booting', 'lost', 'destroying'))
       or exists (select from findings where status in ('open', 'resolving') and class in ('orphan', 'duplicate', 'ghost')) as busy`,
  );
  const { random } = fleet;
  const jump = rows[0]?.busy
    ? MINUTE + random.below(random.pick([3, 15]) * MINUTE)
    : random.below(MAX_JUMP_MS) + MINUTE;
  const toNext = (script[0]?.atMs ?? Infinity) - elapsedMs + 1_000;
  return Math.max(MINUTE, Math.min(jump, toNext));
}

/** All trouble is over and everything is ended: what is left then is a broken promise. */
async function calmDown(
  fleet: WorldFleet,
  judge: Judge,
  excuses: Excuses,
  trace: (line: string) => void,
): Promise<string[]> {
  fleet.crashChance = 0;
  fleet.vendors.calm();
  for (const provider of PROVIDER_NAMES) await setProviderEnabled(fleet.database.kysely, provider, true);
  await fleet.clock.advance(2 * HOUR);
  const problems = await step(fleet, judge, excuses);
  const { rows } = await fleet.database.pool.query<{ id: string }>(
    `select id from instances where status not in ('destroying', 'destroyed')`,
  );
  for (const { id } of rows) await endInstance(fleet, id);
  for (let left = CALM_STEPS; left > 0 && problems.length === 0; left--) {
    problems.push(...(await step(fleet, judge, excuses)));
    const rest = await listLeft(fleet);
    trace(`calm: ${rest.join('; ')}`);
    if (rest.length === 0) return problems;
    if (left === 1) problems.push(...rest);
    // Past the hour after which a listing's baseline is too old to doubt it.
    await fleet.clock.advance(left % 10 === 0 ? 70 * MINUTE : 6 * MINUTE);
  }
  return problems;
}

async function listLeft(fleet: WorldFleet): Promise<string[]> {
  const left: string[] = [];
  for (const { provider, id, label, isForeign, goneAt } of fleet.vendors.machines()) {
    if (!isForeign && goneAt === null) left.push(`${provider} machine ${id} (${label}) is left`);
  }
  const { rows } = await fleet.database.pool.query<{ what: string }>(
    `select 'instance ' || id || ' is ' || status as what from instances where status <> 'destroyed'
     union all select 'attempt ' || id || ' is ' || status from attempts where status <> 'gone'
     union all select kind || ' ' || id || ' is ' || status || ': ' || coalesce(note, '') from operations where status in ('queued', 'running')
     union all select 'finding ' || id || ' (' || class || ') is ' || status from findings where status in ('open', 'resolving')`,
  );
  left.push(...rows.map((row) => row.what));
  left.push(...fleet.engine.leftovers().map((name) => `stack ${name} holds something`));
  return left;
}

async function report(fleet: WorldFleet): Promise<Pick<WorldReport, 'crashes' | 'ready' | 'findings'>> {
  const { rows } = await fleet.database.pool.query<{ ready: string; findings: string }>(
    `select (select count(*) from instances where ready_at is not null) as ready, (select count(*) from findings) as findings`,
  );
  return {
    crashes: fleet.crashes,
    ready: Number(rows[0]?.ready),
    findings: Number(rows[0]?.findings),
  };
}
