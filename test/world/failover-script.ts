/** The script of the failover world, drawn from its seed: what there is at the beginning, what goes wrong, when, and for how long. */
import { acceptFailover } from '../../db/accept-failover.ts';
import { acceptHibernate } from '../../db/accept-hibernate.ts';
import { acceptProvision } from '../../db/accept-provision.ts';
import { acceptStackOperation } from '../../db/accept-stack.ts';
import { acceptWake } from '../../db/accept-wake.ts';
import type { Actor } from '../../db/audit.ts';
import { inTransaction } from '../../db/database.ts';
import { saveFailoverPolicy } from '../../db/failover-policies.ts';
import { findRunningFailover, updateFailover } from '../../db/failovers.ts';
import { newId } from '../../db/new-id.ts';
import { insertStack } from '../../db/stacks.ts';
import { insertStandby, newStandbyId } from '../../db/standbys.ts';
import { ensureWorkspace } from '../../db/workspaces.ts';
import { MusterError } from '../../domain/error-table.ts';
import { REQUEST } from '../support/fleet-database.ts';
import type { SeededRandom } from '../support/seeded-random.ts';
import type { FailoverFleet } from './failover-fleet.ts';
import type { Machine } from './machine.ts';
import type { Rented } from './machine-vendors.ts';
import { NO_TROUBLE } from './snapshot-store.ts';

const SECOND = 1_000;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
export const ACTOR: Actor = { kind: 'user', id: 'usr_world' };

const DEEDS = {
  host_loss: 16,
  cut_off: 14,
  store: 12,
  rot: 3,
  outage: 6,
  clock: 5,
  blip: 4,
  provider: 9,
  gpu_drought: 5,
  zone_drought: 6,
  agent: 6,
  hibernate: 7,
  wake: 5,
  failover: 4,
  failback: 5,
  standby_loss: 5,
  full_disk: 3,
} as const;
export type Deed = keyof typeof DEEDS;

export interface ScriptedDeed {
  atMs: number;
  deed: Deed;
}

export const DEED_NAMES = Object.keys(DEEDS) as Deed[];

/** In order of time. @param only of these kinds */
export function writeScript(
  random: SeededRandom,
  { lengthMs, deeds, only = DEED_NAMES }: { lengthMs: number; deeds: number; only?: readonly Deed[] | undefined },
): ScriptedDeed[] {
  const total = only.reduce((sum, deed) => sum + DEEDS[deed], 0);
  const draw = (): Deed => {
    let left = random.below(total);
    return only.find((deed) => (left -= DEEDS[deed]) < 0) as Deed;
  };
  return Array.from({ length: deeds }, () => ({ atMs: random.below(lengthMs), deed: draw() })).sort(
    (a, b) => a.atMs - b.atMs,
  );
}

export interface Story {
  /** Ends of troubles, by the clock of machines. */
  ends: { at: number; end: () => Promise<void> | void }[];
  /** Until then all machines were cut off at once: whoever fails over then has been fooled. By the clock of machines. */
  blipUntil: number;
}

/** Two or three instances with policies of all kinds. */
export async function setUp(fleet: FailoverFleet): Promise<void> {
  const { random } = fleet;
  const count = 2 + random.below(2);
  for (let index = 0; index < count; index++) {
    const rpoMs = random.pick([20, 30, 40]) * MINUTE;
    const mode = random.pick(['replace', 'standby', 'standby'] as const);
    const failback = random.pick(['automatic', 'automatic', 'manual'] as const);
    const instanceId = await makeInstance(fleet, `w-${index}`, { mode, rpoMs, failback });
    if (mode === 'standby') await makeStandby(fleet, instanceId, `s-${index}`, rpoMs);
  }
}

interface Wish {
  mode: 'replace' | 'standby';
  rpoMs: number;
  failback: 'automatic' | 'manual';
}

async function makeInstance(fleet: FailoverFleet, name: string, wish: Wish): Promise<string> {
  const { db, queue, orgId } = fleet;
  return inTransaction(db, async (tx) => {
    const { instances } = await acceptProvision(tx, queue, {
      orgId,
      actor: ACTOR,
      names: [name],
      request: { ...REQUEST, maxLifetimeMs: 30 * 24 * HOUR },
      consumer: null,
      overrideReason: null,
      stackId: newId('stack'),
    });
    const instanceId = instances[0]?.id as string;
    const bounds = { cooldownMs: 10 * MINUTE, maxPerDay: 4, maxPriceMicroUsdPerHour: null };
    await saveFailoverPolicy(tx, { id: instanceId, orgId }, { ...wish, ...bounds }, 'world');
    await ensureWorkspace(tx, { instanceId, orgId, wish: { snapshotEveryMs: wish.rpoMs } });
    return instanceId;
  });
}

async function makeStandby(fleet: FailoverFleet, instanceId: string, name: string, rpoMs: number): Promise<void> {
  const { db, queue, orgId, random } = fleet;
  const state = random.pick(['warm', 'warm', 'stopped'] as const);
  const config = {
    project: 'a-project',
    zone: 'europe-west4-a',
    state,
    ...(random.chance(0.5) ? { fallbackZone: 'europe-west4-b' } : {}),
  };
  const own = { orgId, createdBy: 'world' };
  await inTransaction(db, async (tx) => {
    const stack = await insertStack(tx, {
      ...own,
      kind: 'standby',
      title: name,
      config,
      owner: 'world',
      costCentre: 'world',
      ceilingMicroUsdPerHour: null,
      protect: false,
      onDrift: 'report',
    });
    if (!stack) throw new Error(`there is a stack ${name}`);
    const drills = { drillEveryMs: null, drillPolicy: null };
    await insertStandby(tx, {
      ...own,
      ...drills,
      id: newStandbyId(),
      instanceId,
      name,
      stackId: stack.id,
      state,
      rpoMs,
      config,
    });
    await acceptStackOperation(tx, queue, { stack, kind: 'up_stack', actor: ACTOR });
  });
}

/** @returns what it did, for people */
export async function doDeed(fleet: FailoverFleet, deed: Deed, story: Story): Promise<string> {
  const { random, time } = fleet;
  const later = (ms: number, end: () => Promise<void> | void) => void story.ends.push({ at: time.nowMs() + ms, end });
  const long = () => random.pick([0.5, 2, 5, 15, 45]) * MINUTE * (0.5 + random.next());
  switch (deed) {
    case 'host_loss':
      return loseHost(fleet, later);
    case 'cut_off':
      return cutOff(fleet, later, random.pick([0.3, 1, 2, 10, 40]) * MINUTE * (0.5 + random.next()));
    case 'store':
      return troubleStore(fleet, later, long());
    case 'rot': {
      const id = await pickInstance(fleet, ['ready', 'creating', 'booting', 'hibernated']);
      return `rot ${id !== null && fleet.store.rot(id, random)}`;
    }
    case 'outage':
      return outage(fleet, later);
    case 'clock': {
      const jump = Math.round((random.next() - 0.4) * 20 * MINUTE);
      await fleet.jumpClock(jump);
      return `clock ${Math.round(jump / SECOND)} s`;
    }
    case 'blip':
      return blip(fleet, story, later);
    case 'provider': {
      const kind = random.pick(['isDown', 'isLying', 'isDestroyDeaf'] as const);
      fleet.vendor.trouble[kind] = true;
      later(long(), () => void (fleet.vendor.trouble[kind] = false));
      return `provider ${kind}`;
    }
    case 'gpu_drought':
      fleet.vendor.trouble.isEmpty = true;
      later(long(), () => void (fleet.vendor.trouble.isEmpty = false));
      return 'gpu drought';
    case 'zone_drought': {
      const zones = random.pick([['zone'], ['zone', 'fallback_zone'], ['fallback_zone']] as const);
      for (const zone of zones) fleet.cloud.full.add(zone);
      later(3 * long(), () => fleet.cloud.full.clear());
      return `no room in ${zones.join(', ')}`;
    }
    case 'agent': {
      const machine = pickMachine(fleet, (one) => one.isAgentUp);
      machine?.killAgent();
      if (machine) later(long() / 2, () => machine.startAgent());
      return `agent of ${machine?.name} crashed`;
    }
    case 'full_disk': {
      const machine = pickMachine(fleet, (one) => one.power === 'on');
      if (machine) machine.isFull = true;
      if (machine) later(long(), () => void (machine.isFull = false));
      return `disk of ${machine?.name} full`;
    }
    case 'standby_loss':
      return loseStandby(fleet, later, long());
    default:
      return ask(fleet, deed);
  }
}

type Later = (ms: number, end: () => Promise<void> | void) => void;

/** Its vendor notices, or does not; it comes back as it was, or never. */
function loseHost({ random, vendor }: FailoverFleet, later: Later): string {
  const found = pickRented(vendor.rented(), random);
  if (!found) return 'no host';
  found.machine.die();
  const word = random.pick(['stopped', 'failed', 'vanished', null, null] as const);
  if (random.chance(0.5)) found.word = word;
  else later(random.below(3 * MINUTE), () => void (found.word = word));
  if (random.chance(0.5)) {
    later((0.2 + random.next() * 20) * MINUTE, () => {
      found.word = null;
      found.machine.back();
    });
  }
  return `${found.machine.name} died, its vendor says ${word}`;
}

function pickRented(all: Rented[], random: SeededRandom): Rented | null {
  const alive = all.filter(({ machine }) => machine.power === 'on');
  return alive.length === 0 ? null : random.pick(alive);
}

/** A machine works on, and we do not know it. */
function cutOff(fleet: FailoverFleet, later: Later, forMs: number): string {
  const machine = pickMachine(fleet, (one) => one.power === 'on' && !one.isCutOff);
  if (!machine) return 'nobody to cut off';
  machine.isCutOff = true;
  later(forMs, () => void (machine.isCutOff = false));
  return `${machine.name} cut off for ${Math.round(forMs / SECOND)} s`;
}

function troubleStore({ store, random }: FailoverFleet, later: Later, forMs: number): string {
  const trouble = random.pick([
    { isAway: true },
    { failing: 0.5 },
    { damaging: 0.6 },
    { slowMs: 2 * MINUTE },
    { slowMs: 5 * MINUTE, damaging: 0.3 },
  ]);
  store.trouble = { ...NO_TROUBLE, ...trouble };
  later(forMs, () => void (store.trouble = NO_TROUBLE));
  return `store ${JSON.stringify(trouble)} for ${Math.round(forMs / SECOND)} s`;
}

/** Nobody takes heartbeats, or nobody works either. */
async function outage(fleet: FailoverFleet, later: Later): Promise<string> {
  if (!fleet.isUp) return 'down already';
  const isAll = fleet.random.chance(0.6);
  const forMs = fleet.random.pick([0.2, 2, 10, 10]) * MINUTE;
  // Longer than the dead man's time they would switch themselves off, as they should.
  const boundedMs = Math.min(forMs, fleet.deadManMs - 2 * MINUTE);
  await fleet.goDown(isAll);
  later(boundedMs, () => fleet.comeUp());
  return `${isAll ? 'control plane' : 'api'} down for ${Math.round(boundedMs / SECOND)} s`;
}

/** Our own network: all of them at once. */
function blip(fleet: FailoverFleet, story: Story, later: Later): string {
  const cut = fleet.machines().filter((one) => one.power === 'on' && !one.isCutOff);
  if (cut.length < 2 || fleet.machines().some((one) => one.isCutOff)) return 'no blip';
  const forMs = Math.round((0.2 + fleet.random.next() * 3) * MINUTE);
  for (const machine of cut) machine.isCutOff = true;
  const rented = cut.filter((one) => one.kind === 'rented').length;
  if (rented >= 2) story.blipUntil = fleet.time.nowMs() + forMs;
  later(forMs, () => {
    for (const machine of cut) machine.isCutOff = false;
  });
  return `blip of ${cut.length} for ${Math.round(forMs / SECOND)} s`;
}

function loseStandby(fleet: FailoverFleet, later: Later, forMs: number): string {
  const machine = pickMachine(fleet, (one) => one.kind === 'standby' && one.power === 'on');
  machine?.die();
  if (machine) later(forMs, () => machine.back());
  return `standby ${machine?.name} lost`;
}

/** What people ask for. */
async function ask(fleet: FailoverFleet, deed: Deed): Promise<string> {
  const { db, queue } = fleet;
  const from = deed === 'wake' ? ['hibernated'] : deed === 'failback' ? ['creating', 'ready'] : ['ready'];
  const instanceId = await pickInstance(fleet, from);
  if (instanceId === null) return `nothing for ${deed}`;
  const order = { orgId: null, instanceId, actor: ACTOR };
  try {
    const said = await inTransaction(db, async (tx) => {
      if (deed === 'hibernate') {
        await acceptHibernate(tx, queue, { ...order, cause: 'request', reason: 'asked' });
        await endWork(fleet, instanceId);
        return 'accepted';
      }
      if (deed === 'wake') {
        await acceptWake(tx, queue, { ...order, cause: 'request', hold: null });
        return 'accepted';
      }
      if (deed === 'failover')
        return (await acceptFailover(tx, queue, { ...order, cause: 'requested', reasons: ['asked'] })).kind;
      const running = await findRunningFailover(tx, instanceId);
      if (running) await updateFailover(tx, running.id, { failback_requested_at: fleet.now() });
      return running ? 'asked' : 'nothing runs';
    });
    return `${deed} ${instanceId}: ${said}`;
  } catch (error) {
    if (!(error instanceof MusterError)) throw error;
    return `${deed} ${instanceId}: ${error.detail}`;
  }
}

/** Whoever has a machine put to sleep ends its work first. */
async function endWork({ db, machines }: FailoverFleet, instanceId: string): Promise<void> {
  const endpoint = await db
    .selectFrom('endpoints')
    .select('node_id')
    .where('instance_id', '=', instanceId)
    .executeTakeFirst();
  for (const machine of machines()) if (machine.nodeId === endpoint?.node_id) machine.isWorking = false;
}

async function pickInstance({ db, random }: FailoverFleet, status: string[]): Promise<string | null> {
  const rows = await db.selectFrom('instances').select(['id', 'status']).orderBy('name').execute();
  const found = rows.filter((row) => status.includes(row.status));
  return found.length === 0 ? null : random.pick(found).id;
}

function pickMachine({ random, machines }: FailoverFleet, isFit: (machine: Machine) => boolean): Machine | null {
  const found = machines().filter(isFit);
  return found.length === 0 ? null : random.pick(found);
}

/** Everything is well again. */
export async function endTroubles(fleet: FailoverFleet, story: Story): Promise<void> {
  for (const { end } of story.ends.splice(0)) await end();
  fleet.store.trouble = NO_TROUBLE;
  fleet.cloud.full.clear();
  Object.assign(fleet.vendor.trouble, { isDown: false, isEmpty: false, isLying: false, isDestroyDeaf: false });
  await fleet.comeUp();
  // A vendor that did not notice does so in the end, and one that was mistaken too.
  for (const rented of fleet.vendor.rented()) {
    if (rented.machine.power === 'dead') rented.word ??= 'failed';
    if (rented.machine.power === 'on') rented.word = null;
  }
  for (const machine of fleet.machines()) {
    machine.isFull = false;
    if (machine.isCutOff) machine.isCutOff = false;
    if (machine.kind === 'standby' && machine.power === 'dead') machine.back();
    machine.startAgent();
  }
}
