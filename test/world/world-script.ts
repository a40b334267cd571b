/** The script of a week in the world, drawn from its seed: what people, vendors, bad luck and backups do, and when. */
import { acceptAdopt } from '../../db/accept-adopt.ts';
import { acceptCancel } from '../../db/accept-cancel.ts';
import { acceptDestroy } from '../../db/accept-destroy.ts';
import { acceptProvision } from '../../db/accept-provision.ts';
import type { Actor } from '../../db/audit.ts';
import { inTransaction } from '../../db/database.ts';
import { listFindings, lockFinding } from '../../db/findings.ts';
import { newId } from '../../db/new-id.ts';
import { setProviderEnabled } from '../../db/providers.ts';
import { MusterError } from '../../domain/error-table.ts';
import { formatLabel } from '../../domain/label.ts';
import { PROVIDER_NAMES, type ProviderName } from '../../domain/provider.ts';
import { DEFAULT_IMAGE, type ProvisionRequest } from '../../domain/provision-request.ts';
import type { SeededRandom } from '../support/seeded-random.ts';
import { DEPLOYMENT_ID, labelMac, type WorldFleet } from './world-fleet.ts';
import { SPELL_NAMES } from './world-spells.ts';
import type { WorldMachine } from './world-vendor.ts';

const HOUR = 3_600_000;
const ACTOR: Actor = { kind: 'user', id: 'usr_world' };

const DEEDS = {
  request: 34,
  destroy: 12,
  cancel: 4,
  spell: 22,
  foreign: 8,
  misfortune: 10,
  console: 4,
  lose_rows: 5,
  twin: 3,
  revenant: 5,
  adopt: 3,
  toggle: 3,
} as const;
export type Deed = keyof typeof DEEDS;

export interface ScriptedDeed {
  atMs: number;
  deed: Deed;
}

/** In order of time. */
export function writeScript(random: SeededRandom, lengthMs: number, deeds: number): ScriptedDeed[] {
  const total = Object.values(DEEDS).reduce((sum, weight) => sum + weight, 0);
  const draw = (): Deed => {
    let left = random.below(total);
    for (const [deed, weight] of Object.entries(DEEDS)) if ((left -= weight) < 0) return deed as Deed;
    return 'request';
  };
  return Array.from({ length: deeds }, () => ({ atMs: random.below(lengthMs), deed: draw() })).sort(
    (a, b) => a.atMs - b.atMs,
  );
}

/** What the promises must know of it. */
export interface Excuses {
  /** Labels of machines that the script itself made ours without a row, or twice. */
  labels: Set<string>;
  /** Provider and id of machines of other people. */
  foreign: Map<string, ProviderName>;
  /** Ids of machines that somebody destroyed in the vendor's console. */
  taken: Set<string>;
}

export async function doDeed(fleet: WorldFleet, deed: Deed, excuses: Excuses): Promise<void> {
  const { random, vendors } = fleet;
  const provider = random.pick(PROVIDER_NAMES);
  switch (deed) {
    case 'request':
      return request(fleet);
    case 'destroy':
      return destroyOne(fleet);
    case 'cancel':
      return cancelOne(fleet);
    case 'spell':
      return vendors.cast(provider, random.pick(SPELL_NAMES), (0.2 + random.next() * 3) * HOUR);
    case 'foreign':
      return liveForeign(fleet, provider, excuses);
    case 'misfortune':
      return strikeMachine(fleet);
    case 'console':
      return useConsole(fleet, excuses);
    case 'lose_rows':
      return loseRows(fleet, excuses);
    case 'twin': {
      const machine = pickOwn(fleet);
      if (!machine) return;
      excuses.labels.add(machine.label);
      return void (await vendors.place(machine.provider, machine.label, false));
    }
    case 'revenant':
      return bringBack(fleet, excuses);
    case 'adopt':
      return adoptOne(fleet);
    case 'toggle':
      return setProviderEnabled(fleet.database.kysely, provider, random.chance(0.7));
  }
}

function pickOwn(fleet: WorldFleet): WorldMachine | null {
  const own = fleet.vendors.machines().filter((machine) => !machine.isForeign && machine.goneAt === null);
  return own.length === 0 ? null : fleet.random.pick(own);
}

async function request(fleet: WorldFleet): Promise<void> {
  const { random } = fleet;
  const isInterruptible = random.chance(0.2);
  const strategy = random.pick(['coldstart', 'race', 'race', 'round_robin'] as const);
  const gpu = random.pick(['RTX 4090', 'RTX 4090', 'RTX 4090', 'H100 SXM']);
  const order: ProvisionRequest = {
    gpu,
    gpuCount: 1,
    minGpuMemoryGib: null,
    diskGib: 40,
    image: random.pick([DEFAULT_IMAGE, DEFAULT_IMAGE, 'example/image:1']),
    maxPriceMicroUsdPerHour: gpu === 'RTX 4090' ? 600_000 : 3_500_000,
    providers: random.chance(0.3) ? [random.pick(PROVIDER_NAMES)] : [],
    regions: [],
    minReliability: null,
    interruptible: isInterruptible,
    ...(isInterruptible ? { onInterruption: random.pick(['rebid', 'replace', 'give_up'] as const) } : {}),
    strategy,
    raceWidth: strategy === 'race' ? 2 + random.below(3) : 1,
    maxRaceCostMicroUsd: 5_000_000,
    sshPublicKeys: [],
    envNames: [],
    envSealed: null,
    onStart: null,
    maxLifetimeMs: (0.5 + random.next() * 12) * HOUR,
    bootTimeoutMs: 15 * 60_000,
  };
  const count = random.pick([1, 1, 1, 2, 3]);
  const names = Array.from({ length: count }, () => `w-${newId('instance').slice(4)}`);
  try {
    await inTransaction(fleet.database.kysely, (tx) =>
      acceptProvision(tx, fleet.queue, {
        orgId: fleet.orgId,
        actor: ACTOR,
        names,
        request: order,
        consumer: null,
        overrideReason: null,
        stackId: newId('stack'),
      }),
    );
  } catch (error) {
    if (!(error instanceof MusterError) || error.code !== 'cap_exceeded') throw error;
  }
}

async function destroyOne(fleet: WorldFleet): Promise<void> {
  const rows = await fleet.database.kysely
    .selectFrom('instances')
    .select('id')
    .where('status', 'in', ['requested', 'creating', 'booting', 'ready'])
    .orderBy('created_at')
    .execute();
  if (rows.length > 0) await endInstance(fleet, fleet.random.pick(rows).id);
}

export async function endInstance(fleet: WorldFleet, instanceId: string): Promise<void> {
  await inTransaction(fleet.database.kysely, (tx) =>
    acceptDestroy(tx, fleet.queue, { orgId: null, instanceId, actor: ACTOR, reason: 'asked' }),
  );
}

async function cancelOne(fleet: WorldFleet): Promise<void> {
  const rows = await fleet.database.kysely
    .selectFrom('operations')
    .select('id')
    .where('kind', '=', 'provision_instance')
    .where('status', 'in', ['queued', 'running'])
    .orderBy('created_at')
    .execute();
  if (rows.length === 0) return;
  const operationId = fleet.random.pick(rows).id;
  await inTransaction(fleet.database.kysely, (tx) =>
    acceptCancel(tx, fleet.queue, { orgId: null, operationId, actor: ACTOR, reason: 'changed my mind' }),
  );
}

/** Somebody else with the same account rents a machine, some named like ours, or gives one back. */
async function liveForeign({ vendors, random }: WorldFleet, provider: ProviderName, excuses: Excuses): Promise<void> {
  const own = [...excuses.foreign].filter(([, of]) => of === provider).map(([id]) => id);
  if (own.length > 4 && random.chance(0.4)) {
    const id = random.pick(own);
    const machine = vendors.machines().find((one) => one.provider === provider && one.id === id);
    excuses.foreign.delete(id);
    return machine && vendors.useConsole(machine, 'destroy');
  }
  const attemptId = newId('attempt');
  const forged = `${formatLabel(DEPLOYMENT_ID, attemptId, labelMac).slice(0, -3)}222`;
  const label = random.pick(['my-box', formatLabel('other', attemptId, labelMac), forged]);
  excuses.foreign.set(await vendors.place(provider, label, true), provider);
}

async function strikeMachine(fleet: WorldFleet): Promise<void> {
  const machine = pickOwn(fleet);
  if (!machine) return;
  const take = machine.provider === 'vastai' ? 'outbid' : 'reclaim';
  await fleet.vendors.strike(machine, fleet.random.pick(['host_loss', 'host_loss', 'host_return', take, take]));
}

/** Machines that vanish, that are stopped and bill on, or that start again without their GPUs. */
async function useConsole({ vendors, random, clock }: WorldFleet, excuses: Excuses): Promise<void> {
  const own = vendors.machines().filter((machine) => !machine.isForeign && machine.goneAt === null);
  if (own.length === 0) return;
  const machine = random.pick(own);
  const what = random.pick(['destroy', 'stop', 'restart'] as const);
  if (what === 'destroy') excuses.taken.add(machine.id);
  if (what !== 'restart') return vendors.useConsole(machine, what);
  await vendors.useConsole(machine, 'stop');
  await clock.advance(1_000);
  await vendors.useConsole(machine, 'start');
}

/** A restored backup: the rows say that it is gone, the engine's state has forgotten it, and the machine runs on. */
async function loseRows(fleet: WorldFleet, excuses: Excuses): Promise<void> {
  const { rows } = await fleet.database.pool.query<{ id: string; label: string; instance_id: string; stack: string }>(
    `select a.id, a.label, a.instance_id, s.name as stack from attempts a
     join instances i on i.winner_attempt_id = a.id join stacks s on s.id = i.stack_id
     where i.status = 'ready' and a.status = 'ready'
       and (select count(*) from instances o where o.stack_id = i.stack_id) = 1
       and (select count(*) from attempts o where o.stack_id = i.stack_id and o.status <> 'gone') = 1
       and not exists (select from operations o where o.stack_id = i.stack_id and o.status in ('queued', 'running'))
     order by a.created_at`,
  );
  if (rows.length === 0) return;
  const row = fleet.random.pick(rows);
  excuses.labels.add(row.label);
  await fleet.database.pool.query(`update attempts set status = 'gone', gone_at = now() where id = $1`, [row.id]);
  await fleet.database.pool.query(`update instances set status = 'destroyed', destroyed_at = now() where id = $1`, [
    row.instance_id,
  ]);
  fleet.engine.forget(row.stack);
}

/** A machine with the label of one that was destroyed: the vendor's own restored backup, or a purchase that took a day. */
async function bringBack(fleet: WorldFleet, excuses: Excuses): Promise<void> {
  const rows = await fleet.database.kysely
    .selectFrom('attempts')
    .select(['label', 'provider'])
    .where('status', '=', 'gone')
    .orderBy('created_at')
    .execute();
  if (rows.length === 0) return;
  const { label, provider } = fleet.random.pick(rows);
  excuses.labels.add(label);
  await fleet.vendors.place(provider as ProviderName, label, false);
}

async function adoptOne(fleet: WorldFleet): Promise<void> {
  const db = fleet.database.kysely;
  const [finding] = await listFindings(db, { orgId: null, status: ['open'], class: ['orphan'], limit: 1 });
  if (!finding || finding.price_micro_usd_per_hour === null) return;
  try {
    await inTransaction(db, async (tx) => {
      const row = await lockFinding(tx, finding.id);
      if (row?.status !== 'open') return;
      await acceptAdopt(tx, fleet.queue, {
        finding: row,
        orgId: fleet.orgId,
        actor: ACTOR,
        name: `kept-${newId('instance').slice(4)}`,
        consumer: null,
        lifetimeMs: 6 * HOUR,
        overrideReason: null,
        bootTimeoutMs: 15 * 60_000,
        reason: null,
      });
    });
  } catch (error) {
    if (!(error instanceof MusterError)) throw error;
  }
}
