/** The promises of the design, judged after each step of the world by what is at the vendors and what is in the rows. */
import { readLabel } from '../../domain/label.ts';
import { PROVIDER_NAMES, type ProviderName } from '../../domain/provider.ts';
import { CAPS, DEPLOYMENT_ID, labelMac, type WorldFleet } from './world-fleet.ts';
import type { Excuses } from './world-script.ts';
import type { WorldMachine } from './world-vendor.ts';

interface AttemptFact {
  id: string;
  label: string;
  status: string;
  provider: string;
  provider_instance_id: string | null;
  instance_id: string;
  instance_status: string;
  failure_code: string | null;
  gone_at: Date | null;
  is_too_dear: boolean;
}

export interface Judge {
  /** After a reconcile of all providers and all that followed. New problems, each told once. */
  judge(excuses: Excuses): Promise<string[]>;
  readonly bought: number;
  readonly destroyed: number;
  /** Machines of ours that had no row for a while. */
  readonly orphans: number;
}

/** The vendors' clock and the database's are moved one after the other. */
const CLOCK_SKEW_MS = 100;
/** A purchase may be in the list that late. */
const LAG_MS = 60_000;

export function createJudge(fleet: WorldFleet): Judge {
  const told = new Set<string>();
  const destroyed = new Set<string>();
  /** By orphan: reconciles that were believed, told the truth and should have found it. */
  const reconciles = new Map<string, number>();

  async function judge(excuses: Excuses): Promise<string[]> {
    const problems: string[] = [];
    const attempts = await readAttempts(fleet);
    const byLabel = Map.groupBy(attempts, (attempt) => attempt.label);
    const machines = fleet.vendors.machines();
    for (const machine of machines) {
      if (machine.isForeign) problems.push(...judgeForeign(machine, excuses));
      else problems.push(...judgeOwn(machine, byLabel.get(machine.label) ?? [], excuses));
    }
    for (const provider of PROVIDER_NAMES) {
      const alive = machines.filter((one) => one.provider === provider && !one.isForeign && one.goneAt === null);
      problems.push(...judgeLabels(alive, byLabel, excuses));
      problems.push(...(await judgeOrphans(provider, alive, byLabel)));
    }
    for (const attempt of attempts) problems.push(...judgeAttempt(attempt));
    problems.push(...(await judgeFleet(fleet)), ...(await judgeUsage(fleet)));
    const fresh = problems.filter((problem) => !told.has(problem));
    for (const problem of fresh) told.add(problem);
    return fresh;
  }

  /** Its own people may give it back; nobody else touches it. */
  function judgeForeign(machine: WorldMachine, excuses: Excuses): string[] {
    const isTheirs = excuses.foreign.get(machine.id) === machine.provider;
    return isTheirs && (machine.touches > 0 || machine.goneAt !== null) ? [`foreign ${name(machine)} was touched`] : [];
  }

  function judgeOwn(machine: WorldMachine, attempts: AttemptFact[], excuses: Excuses): string[] {
    if (readLabel(machine.label, DEPLOYMENT_ID, labelMac).owner === 'foreign') return [];
    if (attempts.length === 0) return [`${name(machine)} was bought without a record`];
    const isNews = machine.goneAt !== null && machine.touches > 0 && !destroyed.has(machine.id);
    if (!isNews) return [];
    destroyed.add(machine.id);
    if (excuses.taken.has(machine.id)) return [];
    const own = attempts.filter((attempt) => attempt.provider_instance_id === machine.id);
    return own.flatMap((attempt) => {
      const early =
        attempt.gone_at && !excuses.labels.has(machine.label)
          ? (machine.goneAt as number) - attempt.gone_at.getTime()
          : 0;
      if (early > CLOCK_SKEW_MS) return [`${attempt.id} was called gone ${early} ms before ${name(machine)} was`];
      if (attempt.status !== 'destroying' && attempt.status !== 'gone') {
        return [`${name(machine)} of ${attempt.id} (${attempt.status}) was destroyed`];
      }
      const isLost = attempt.failure_code === 'lost' && !machine.isHostLost;
      return isLost ? [`${attempt.id} was called lost while its machine was there`] : [];
    });
  }

  /** One label, one machine, and a row that knows of it. */
  function judgeLabels(alive: WorldMachine[], byLabel: Map<string, AttemptFact[]>, excuses: Excuses): string[] {
    return [...Map.groupBy(alive, ({ label }) => label)].flatMap(([label, same]) => {
      const first = same[0] as WorldMachine;
      if (excuses.labels.has(label)) return [];
      const problems = same.length > 1 ? [`${same.length} machines have the label of ${name(first)}`] : [];
      return isRecorded(label, byLabel) ? problems : [...problems, `${name(first)} has no live row`];
    });
  }

  /** Machines of ours that a backup or a mishap left without a row are found by the second reconcile that could see them. */
  async function judgeOrphans(
    provider: ProviderName,
    alive: WorldMachine[],
    byLabel: Map<string, AttemptFact[]>,
  ): Promise<string[]> {
    const row = await fleet.database.kysely
      .selectFrom('providers')
      .select(['instances_problem', 'instances_seen_at'])
      .where('name', '=', provider)
      .executeTakeFirstOrThrow();
    const seenAt = row.instances_seen_at?.getTime() ?? 0;
    if (row.instances_problem !== null || fleet.vendors.isLying(provider)) return [];
    const problems: string[] = [];
    for (const machine of alive) {
      if (isRecorded(machine.label, byLabel) || seenAt - machine.createdAt < LAG_MS) continue;
      const count = (reconciles.get(machine.id) ?? 0) + 1;
      reconciles.set(machine.id, count);
      if (count <= 2) continue;
      const found = await fleet.database.kysely
        .selectFrom('findings')
        .select('id')
        .where('provider_instance_id', '=', machine.id)
        .executeTakeFirst();
      if (!found) problems.push(`orphan ${name(machine)} was not found by two reconciles`);
    }
    return problems;
  }

  function isRecorded(label: string, byLabel: Map<string, AttemptFact[]>): boolean {
    return (byLabel.get(label) ?? []).some((attempt) => attempt.status !== 'gone');
  }

  function judgeAttempt(attempt: AttemptFact): string[] {
    const problems: string[] = [];
    if (attempt.is_too_dear) problems.push(`${attempt.id} costs more than its request allows`);
    if (attempt.instance_status === 'destroyed' && attempt.status !== 'gone') {
      problems.push(`${attempt.instance_id} is destroyed and ${attempt.id} is ${attempt.status}`);
    }
    return problems;
  }

  return {
    judge,
    get bought() {
      return fleet.vendors.machines().filter((machine) => machine.isBought).length;
    },
    get destroyed() {
      return destroyed.size;
    },
    get orphans() {
      return reconciles.size;
    },
  };
}

async function judgeFleet(fleet: WorldFleet): Promise<string[]> {
  const { rows } = await fleet.database.pool.query<{ live: string; burn: string }>(
    `select count(*) as live, coalesce(sum(coalesce(a.price_micro_usd_per_hour, i.max_price_micro_usd_per_hour)), 0) as burn
     from instances i left join attempts a on a.id = i.winner_attempt_id where i.status <> 'destroyed'`,
  );
  const problems: string[] = [];
  if (Number(rows[0]?.live) > CAPS.maxInstances) problems.push(`${rows[0]?.live} live instances are beyond the cap`);
  if (BigInt(rows[0]?.burn.split('.')[0] ?? 0) > CAPS.maxBurnMicroUsdPerHour) {
    problems.push(`a burn of ${rows[0]?.burn} is beyond the cap`);
  }
  const { rows: old } = await fleet.database.pool.query<{ id: string; status: string }>(
    `select id, status from instances where expires_at < now() - interval '1 minute'
       and status in ('requested', 'creating', 'booting', 'ready')`,
  );
  for (const { id, status } of old) problems.push(`${id} is ${status} beyond its lifetime`);
  return problems;
}

/** Records of one attempt follow each other without a gap, from its purchase to its end. */
async function judgeUsage(fleet: WorldFleet): Promise<string[]> {
  const { rows } = await fleet.database.pool.query<{ attempt_id: string; what: string }>(
    `with records as (
       select u.*, lag(u.ended_at) over (partition by u.attempt_id order by u.started_at) as before,
         lead(u.started_at) over (partition by u.attempt_id order by u.started_at) as after
       from usage_records u)
     select r.attempt_id, case
         when r.ended_at < r.started_at then 'ends before it starts'
         when r.before > r.started_at then 'is charged twice'
         when r.before < r.started_at then 'has a gap'
         when r.before is null and r.started_at <> a.purchased_at::timestamptz(3) then 'does not start at the purchase'
         when r.after is null and r.is_open and a.is_metered then 'is open for ever'
         when r.after is null and a.is_metered and r.ended_at <> a.gone_at::timestamptz(3) then 'does not end with the machine'
       end as what
     from records r join attempts a on a.id = r.attempt_id`,
  );
  const problems = rows.flatMap(({ attempt_id: id, what }) => (what === null ? [] : [`usage of ${id} ${what}`]));
  const { rows: missing } = await fleet.database.pool.query<{ id: string }>(
    `select id from attempts a where purchased_at is not null and is_metered
       and not exists (select from usage_records u where u.attempt_id = a.id)`,
  );
  return [...problems, ...missing.map(({ id }) => `usage of ${id} is missing`)];
}

async function readAttempts(fleet: WorldFleet): Promise<AttemptFact[]> {
  const { rows } = await fleet.database.pool.query<AttemptFact>(
    `select a.id, a.label, a.status, a.provider, a.provider_instance_id, a.instance_id, i.status as instance_status,
       a.failure_code, a.gone_at, coalesce(a.price_micro_usd_per_hour > i.max_price_micro_usd_per_hour, false) as is_too_dear
     from attempts a join instances i on i.id = a.instance_id`,
  );
  return rows;
}

function name({ provider, id, label }: WorldMachine): string {
  return `${provider} machine ${id} (${label})`;
}
