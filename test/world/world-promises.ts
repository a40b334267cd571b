/** The promises of the design, judged after each step of the world by what is at the vendors and what is in the rows. */
import { readLabel } from '../../domain/label.ts';
import type { ProviderName } from '../../domain/provider.ts';
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
  is_too_dear: boolean;
}

export interface Judge {
  /** New problems, each told once. */
  judge(excuses: Excuses): Promise<string[]>;
  readonly bought: number;
  readonly destroyed: number;
}

export function createJudge(fleet: WorldFleet): Judge {
  const told = new Set<string>();
  const count = { bought: 0, destroyed: 0 };

  async function judge(excuses: Excuses): Promise<string[]> {
    const problems: string[] = [];
    const attempts = await readAttempts(fleet);
    const byLabel = Map.groupBy(attempts, (attempt) => attempt.label);
    for (const [provider, vendor] of fleet.vendors) {
      const { bought, destroyed } = vendor.takeDeeds();
      count.bought += bought.length;
      count.destroyed += destroyed.length;
      for (const machine of bought) {
        if (!byLabel.has(machine.label ?? '')) problems.push(`${name(provider, machine)} was bought without a record`);
      }
      for (const machine of destroyed) problems.push(...judgeDestroyed(provider, machine, byLabel));
      const alive = Map.groupBy(
        [...vendor.machines.values()].filter((machine) => !machine.isForeign),
        (machine) => machine.label ?? '',
      );
      for (const [label, machines] of alive) {
        if (readLabel(label, DEPLOYMENT_ID, labelMac).owner === 'foreign') continue;
        if (excuses.labels.has(label)) continue;
        const first = machines[0] as WorldMachine;
        if (machines.length > 1)
          problems.push(`${machines.length} machines have the label of ${name(provider, first)}`);
        const live = (byLabel.get(label) ?? []).some((attempt) => attempt.status !== 'gone');
        if (!live) problems.push(`${name(provider, first)} has no live row`);
      }
    }
    for (const [id, provider] of excuses.foreign) {
      if (!fleet.vendors.get(provider as ProviderName)?.machines.has(id))
        problems.push(`foreign machine ${id} is gone`);
    }
    for (const attempt of attempts) problems.push(...judgeAttempt(attempt));
    problems.push(...(await judgeFleet(fleet)));
    const fresh = problems.filter((problem) => !told.has(problem));
    for (const problem of fresh) told.add(problem);
    return fresh;
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
      return count.bought;
    },
    get destroyed() {
      return count.destroyed;
    },
  };
}

function judgeDestroyed(provider: ProviderName, machine: WorldMachine, byLabel: Map<string, AttemptFact[]>): string[] {
  if (machine.isForeign) return [`foreign ${name(provider, machine)} was destroyed`];
  const own = (byLabel.get(machine.label ?? '') ?? []).filter(
    (attempt) => attempt.provider_instance_id === machine.id && attempt.provider === provider,
  );
  return own.flatMap((attempt) => {
    if (attempt.status !== 'destroying' && attempt.status !== 'gone') {
      return [`${name(provider, machine)} of ${attempt.id} (${attempt.status}) was destroyed`];
    }
    return attempt.failure_code === 'lost' ? [`${attempt.id} was called lost while its machine was there`] : [];
  });
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
  const overlaps = await fleet.database.pool.query<{ attempt_id: string }>(
    `select a.attempt_id from usage_records a join usage_records b
       on b.attempt_id = a.attempt_id and b.started_at > a.started_at and b.started_at < a.ended_at limit 5`,
  );
  for (const { attempt_id: id } of overlaps.rows) problems.push(`usage of ${id} is charged twice`);
  return problems;
}

async function readAttempts(fleet: WorldFleet): Promise<AttemptFact[]> {
  const { rows } = await fleet.database.pool.query<AttemptFact>(
    `select a.id, a.label, a.status, a.provider, a.provider_instance_id, a.instance_id, i.status as instance_status,
       a.failure_code, coalesce(a.price_micro_usd_per_hour > i.max_price_micro_usd_per_hour, false) as is_too_dear
     from attempts a join instances i on i.id = a.instance_id`,
  );
  return rows;
}

function name(provider: ProviderName, machine: WorldMachine): string {
  return `${provider} machine ${machine.id} (${machine.label ?? 'no label'})`;
}
