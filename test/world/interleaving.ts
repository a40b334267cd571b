/**
 * One interleaving: creates, destroys, reconciles, adoptions, foreign machines and injected orphans on two accounts at once, in an order
 * drawn from the seed. Real: domain rules, buyOrAdopt, destroyVerified. Modelled: the rows (model-rows.ts) and the glue of the handlers.
 */
import { createHash } from 'node:crypto';
import { formatLabel, readLabel } from '../../domain/label.ts';
import { findMissing, judgeListing } from '../../domain/listing.ts';
import { noCrash } from '../../domain/crash-points.ts';
import { formatId } from '../../domain/ids.ts';
import type { ObservedInstance } from '../../domain/observed-instance.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { diffFleet, findUnrecorded, shouldDestroyOrphan } from '../../domain/reconcile.ts';
import { buyOrAdopt } from '../../providers-dynamic/buy-machine.ts';
import { destroyVerified } from '../../providers-dynamic/destroy-machine.ts';
import type { PurchaseRuntime } from '../../providers-dynamic/purchase-runtime.ts';
import { createSeededRandom, type SeededRandom } from '../support/seeded-random.ts';
import { createInterleaver, Killed, type Interleaver } from './interleaver.ts';
import { ModelRows, type ModelAttempt, type ModelFinding } from './model-rows.ts';
import { createSharedAccount, LIST_LAG_MS, type SharedAccount, type SharedMachine } from './shared-account.ts';

export interface InterleavingReport {
  seed: number;
  stretches: number;
  /** What happened, to see that the seeds reach what they should. */
  counts: Record<
    'bought' | 'destroyed' | 'orphans' | 'adopted' | 'foreign' | 'reconciles' | 'kills' | 'findings',
    number
  >;
  /** Broken promises; empty: none. */
  problems: string[];
}

const START = 1_800_000_000_000;
const GRACE_MS = 60_000;
const INSTANT = { verifyMs: 0, firstPollMs: 0, maxPollMs: 0 };
const DEPLOYMENT = 'world';
const mac = (text: string): string =>
  createHash('sha256')
    .update(text)
    .digest('hex')
    .replace(/[^a-f]/g, 'a')
    .slice(0, 13);
const identify = (label: string | null) => readLabel(label, DEPLOYMENT, mac);

interface World {
  random: SeededRandom;
  loop: Interleaver;
  rows: ModelRows;
  accounts: Map<ProviderName, SharedAccount>;
  report: InterleavingReport;
  /** Injected by the test: more than one machine with a label is then no fault of ours. */
  injected: Set<string>;
  /** By machine id: believed reconciles that should have seen the orphan. */
  missedBy: Map<string, number>;
  lastListing: Map<ProviderName, { count: number; at: number }>;
  /** When machines of ours were proven gone, by provider. */
  gone: { provider: ProviderName; at: number }[];
  isCalm: boolean;
}

export async function runInterleaving(seed: number): Promise<InterleavingReport> {
  const world = makeWorld(seed);
  const { random, loop, report } = world;
  const providers = [...world.accounts.keys()];
  for (const provider of providers) {
    for (let index = 0; index < 2 + random.below(3); index++) spawnCreate(world, provider);
    for (let index = 0; index < 2 + random.below(2); index++) loop.spawn('person', () => livePerson(world, provider));
    for (let index = 0; index < 2 + random.below(3); index++)
      loop.spawn('reconcile', () => reconcileLater(world, provider));
  }
  loop.spawn('operator', () => operate(world));
  loop.spawn('misfortune', () => strike(world));
  const crashChance = random.pick([0, 0.01, 0.03]);
  report.stretches = await loop.run({ crashChance, maxStretches: 20_000, afterEach: () => watch(world) });
  await calmDown(world, providers);
  return report;
}

function makeWorld(seed: number): World {
  const random = createSeededRandom(seed);
  const loop = createInterleaver(random, START);
  const report: InterleavingReport = {
    seed,
    stretches: 0,
    counts: { bought: 0, destroyed: 0, orphans: 0, adopted: 0, foreign: 0, reconciles: 0, kills: 0, findings: 0 },
    problems: [],
  };
  const accounts = new Map<ProviderName, SharedAccount>();
  const world: World = {
    random,
    loop,
    rows: new ModelRows(),
    accounts,
    report,
    injected: new Set(),
    missedBy: new Map(),
    lastListing: new Map(),
    gone: [],
    isCalm: false,
  };
  for (const provider of ['vastai', 'lambda'] as const) {
    const account = createSharedAccount(provider, random, loop);
    account.faults = {
      lostAnswers: random.pick([0, 0.3]),
      lostRequests: random.pick([0, 0.2]),
      refusals: random.pick([0, 0.2]),
      errors: random.pick([0, 0.1]),
      lies: random.pick([0, 0.2, 0.5]),
      slowDestroys: random.pick([0, 0.5]),
    };
    account.onDestroy = (machine) => judgeDestroy(world, account, machine);
    accounts.set(provider, account);
  }
  return world;
}

// --- actors ---------------------------------------------------------------------------------------------------------

/** Starts again where it was killed, as the next worker that claims the operation does. */
function supervise(world: World, name: string, actor: () => Promise<void>): void {
  world.loop.spawn(name, async () => {
    try {
      await actor();
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
      world.report.counts.kills++;
      supervise(world, name, actor);
    }
  });
}

function spawnCreate(world: World, provider: ProviderName): void {
  const attemptId = newAttemptId(world);
  const row = world.rows.insert(provider, attemptId, formatLabel(DEPLOYMENT, attemptId, mac), world.loop.now);
  supervise(world, 'create', () => create(world, row));
  if (world.random.chance(0.5)) spawnDestroy(world, row);
}

async function create(world: World, row: ModelAttempt): Promise<void> {
  const { loop, rows } = world;
  for (let round = 0; round < 20; round++) {
    await loop.point();
    if (row.isDestroyAsked || (row.status !== 'reserved' && row.status !== 'buying')) break;
    if (row.isHeld) continue;
    row.isHeld = true;
    try {
      if ((await takeListing(world, row.provider)) !== null) await buy(world, row);
    } finally {
      row.isHeld = false;
    }
  }
  await loop.point();
  if (!row.isDestroyAsked) rows.markReady(row, loop.now);
  // A provision that never got through fails, and destroys what it left half made.
  if (row.status === 'reserved' || row.status === 'buying') spawnDestroy(world, row);
}

async function buy(world: World, row: ModelAttempt): Promise<void> {
  const { loop, rows } = world;
  rows.markEngineRun(row, loop.now);
  await loop.point();
  try {
    const bought = await buyOrAdopt(
      makeRuntime(world, row),
      {
        provider: row.provider,
        label: row.label,
        requirements: {} as Parameters<typeof buyOrAdopt>[1]['requirements'],
        order: {} as Parameters<typeof buyOrAdopt>[1]['order'],
      },
      INSTANT,
    );
    await loop.point();
    rows.recordPurchase(row, bought.providerInstanceId, loop.now);
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    if (error.kind === 'no_capacity') recordGone(world, row);
  }
}

function makeRuntime(world: World, row: ModelAttempt): PurchaseRuntime {
  const account = accountOf(world, row.provider);
  let given = 0;
  return {
    client: () => account.client,
    async nextCandidate() {
      // As assertNotBoughtBefore in automation/operations/candidates.ts.
      if (row.engineRuns > 1) {
        const observed = await takeListing(world, row.provider);
        if (observed === null) throw new ProviderError('unknown', 'the listing is not believed');
        if (observed.some((one) => one.label === row.label)) throw new ProviderError('unknown', 'it exists');
      }
      if (given++ >= 3) return null;
      return { providerOfferId: String(given), machineId: null, priceMicroUsdPerHour: 300_000n };
    },
    mayExist: () => row.engineRuns > 1,
    labelFor: () => row.label,
    assertMaySpend() {},
    listLagMs: () => 0,
    deploymentSshPublicKeys: () => [],
    signal: () => new AbortController().signal,
    progress() {},
    crashPoint: noCrash,
  };
}

function spawnDestroy(world: World, row: ModelAttempt): void {
  supervise(world, 'destroy', () => destroy(world, row));
}

async function destroy(world: World, row: ModelAttempt): Promise<void> {
  const { loop, rows } = world;
  for (;;) {
    await loop.point();
    row.isDestroyAsked = true;
    if (row.status === 'gone' || !rows.attempts.has(row.attemptId)) return;
    if (row.isHeld) continue;
    row.isHeld = true;
    try {
      rows.markDestroying(row, loop.now);
      if ((row.status as string) === 'gone') return;
      await loop.point();
      await removeMachine(world, row);
      await loop.point();
      recordGone(world, row);
      return;
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error;
    } finally {
      row.isHeld = false;
    }
  }
}

async function removeMachine(world: World, row: ModelAttempt): Promise<void> {
  const { client } = accountOf(world, row.provider);
  const { label } = row;
  if (row.providerInstanceId !== null) {
    return destroyVerified(client, { providerInstanceId: row.providerInstanceId, label }, INSTANT);
  }
  for (const { providerInstanceId } of await client.findByLabel(label)) {
    await destroyVerified(client, { providerInstanceId, label }, INSTANT);
  }
  const observed = await takeListing(world, row.provider);
  if (observed === null || observed.some((one) => one.label === label)) {
    throw new ProviderError('retryable', 'not proven gone');
  }
}

async function reconcileLater(world: World, provider: ProviderName): Promise<void> {
  for (let wait = world.random.below(40); wait > 0; wait--) await world.loop.point();
  await reconcile(world, provider);
}

/** As automation/cron/reconcile-fleet.ts, with a point wherever it waits for the vendor or the database. */
async function reconcile(world: World, provider: ProviderName): Promise<void> {
  const { loop, rows } = world;
  const before = rows.live(provider);
  const orphansBefore = listOrphans(world, provider);
  await loop.point();
  const observed = await takeListing(world, provider, before);
  if (observed === null) return;
  const unrecorded = findUnrecorded({ recorded: before, observed, readLabel: identify });
  const since = rows.byLabel(provider, unrecorded).filter((row) => row.status !== 'gone');
  const previous = rows.findings
    .filter((one) => one.provider === provider && one.status !== 'resolved')
    .map((one) => ({ ...one }));
  await loop.point();
  const diff = diffFleet({
    provider,
    recorded: [...before, ...since],
    observed,
    readLabel: identify,
    graceMs: GRACE_MS,
    previousFindings: previous,
    now: loop.now,
  });
  for (const update of diff.updates) {
    await loop.point();
    const row = rows.attempts.get(update.attemptId);
    if (!row) continue;
    if (update.kind === 'observed') Object.assign(row, { missingSince: null, missingCount: 0 });
    else if (update.kind === 'missing') {
      Object.assign(row, { missingSince: row.missingSince ?? loop.now, missingCount: row.missingCount + 1 });
    } else if (rows.markLost(row, loop.now)) {
      if (hasMachine(world, row)) fail(world, `${row.attemptId} is called lost, and its machine is there`);
      spawnDestroy(world, row);
    }
  }
  const seen: ModelFinding[] = [];
  for (const finding of diff.findings) {
    await loop.point();
    const row = rows.sight(finding, loop.now);
    seen.push(row);
    if (row.status !== 'open' || !shouldDestroyOrphan(row, 'destroy', loop.now, GRACE_MS)) continue;
    await loop.point();
    if (rows.acceptDestroy(row)) supervise(world, 'destroy_found', () => destroyFound(world, row));
  }
  await loop.point();
  rows.resolveUnseen(provider, seen);
  // A lie that nothing contradicts is believed: none of our rows is missing in it. Such a reconcile has seen nothing.
  if (accountOf(world, provider).untrue.has(observed)) return;
  const orphansAfter = listOrphans(world, provider);
  noteMissedOrphans(
    world,
    orphansBefore.filter((id) => orphansAfter.includes(id)),
  );
  world.report.counts.reconciles++;
}

/** As destroyFound in automation/operations/destroy.ts. */
async function destroyFound(world: World, finding: ModelFinding): Promise<void> {
  const { client } = accountOf(world, finding.provider);
  for (;;) {
    await world.loop.point();
    try {
      await destroyVerified(
        client,
        { providerInstanceId: finding.providerInstanceId as string, label: finding.label, sparesOthers: true },
        INSTANT,
      );
      world.rows.changeFinding(finding, 'resolved', ['resolving', 'open']);
      world.gone.push({ provider: finding.provider, at: world.loop.now });
      return;
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error;
      if (error.kind === 'invalid') return void world.rows.changeFinding(finding, 'open', ['resolving']);
    }
  }
}

/** Somebody else with the same account: rents, renames and gives back machines, some named like ours. */
async function livePerson(world: World, provider: ProviderName): Promise<void> {
  const { random, loop } = world;
  const account = accountOf(world, provider);
  const id = newAttemptId(world);
  const names = [null, 'my box', formatLabel('other', id, mac), `${formatLabel(DEPLOYMENT, id, mac).slice(0, -2)}zz`];
  const own: SharedMachine[] = [];
  for (let turn = 0; turn < 4 + random.below(6); turn++) {
    await loop.point();
    const act = random.below(4);
    const [machine] = own;
    if (act <= 1 || !machine) {
      own.push(account.place(random.pick(names), true));
      world.report.counts.foreign++;
    } else if (act === 2) machine.label = random.pick(names);
    else account.machines.delete((own.shift() as SharedMachine).id);
  }
}

/** A person of ours who adopts orphans as they are found, and destroys now and then. */
async function operate(world: World): Promise<void> {
  const { random, loop, rows } = world;
  for (let turn = 0; turn < 60; turn++) {
    await loop.point();
    const open = rows.findings.filter((one) => one.class === 'orphan' && one.status === 'open');
    if (open.length === 0 || random.chance(0.7)) continue;
    const finding = random.pick(open);
    if (random.chance(0.5)) {
      if (rows.acceptDestroy(finding)) supervise(world, 'destroy_found', () => destroyFound(world, finding));
      continue;
    }
    const row = rows.adopt(finding, newAttemptId(world), loop.now);
    if (!row) continue;
    world.report.counts.adopted++;
    if (random.chance(0.3)) spawnDestroy(world, row);
  }
}

/** Rows lost to a restored backup, machines that come back from the dead, twins, hosts that die. */
async function strike(world: World): Promise<void> {
  const { random, loop, rows } = world;
  for (let turn = 0; turn < 40; turn++) {
    await loop.point();
    if (random.chance(0.7)) continue;
    const all = [...rows.attempts.values()];
    const ready = all.filter((row) => row.status === 'ready' && !row.isHeld && !row.isDestroyAsked);
    const gone = all.filter((row) => row.status === 'gone' && row.engineRuns > 0);
    const act = random.below(4);
    if (act === 0 && ready.length > 0) rows.attempts.delete(random.pick(ready).attemptId);
    else if (act === 1 && gone.length > 0) inject(world, random.pick(gone));
    else if (act === 2 && ready.length > 0) inject(world, random.pick(ready));
    else if (act === 3 && ready.length > 0) {
      const row = random.pick(ready);
      accountOf(world, row.provider).machines.delete(row.providerInstanceId as string);
    }
  }
}

function inject(world: World, row: ModelAttempt): void {
  world.injected.add(row.label);
  accountOf(world, row.provider).place(row.label, false);
}

// --- listings -------------------------------------------------------------------------------------------------------

/** As takeListing in automation/readiness/list-instances.ts; null: not believed. */
async function takeListing(
  world: World,
  provider: ProviderName,
  recorded = world.rows.live(provider),
): Promise<ObservedInstance[] | null> {
  const { client } = accountOf(world, provider);
  const previous = world.lastListing.get(provider) ?? null;
  try {
    const observed = await client.listInstances();
    const seen = new Set(observed.map((one) => one.providerInstanceId));
    const { now } = world.loop;
    const expectedOurs = recorded.flatMap((row) =>
      row.providerInstanceId !== null &&
      (row.status === 'bought' || row.status === 'ready') &&
      row.purchasedAt !== null &&
      now - row.purchasedAt > LIST_LAG_MS + 2_000
        ? [row.providerInstanceId]
        : [],
    );
    const confirmedGone = new Set<string>();
    for (const id of findMissing({ expectedOurs, seen, confirmedGone })) {
      if ((await client.readInstance(id)) === null) confirmedGone.add(id);
    }
    const goneSince = world.gone.filter((one) => one.provider === provider && one.at > (previous?.at ?? 0)).length;
    const belief = judgeListing({
      error: null,
      count: observed.length,
      previousCount: previous === null ? null : Math.max(0, previous.count - goneSince),
      lastGoodAt: previous?.at ?? null,
      expectedOurs,
      seen,
      confirmedGone,
      now: world.loop.now,
    });
    if (belief !== 'believable') return null;
    world.lastListing.set(provider, { count: observed.length, at: world.loop.now });
    return observed;
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    return null;
  }
}

// --- promises -------------------------------------------------------------------------------------------------------

function judgeDestroy(world: World, account: SharedAccount, machine: SharedMachine): void {
  world.report.counts.destroyed++;
  if (machine.isForeign) return fail(world, `foreign machine ${machine.id} was destroyed`);
  for (const row of world.rows.live(account.provider)) {
    if (row.isDestroyAsked || row.status === 'destroying' || row.status === 'lost') continue;
    const isItsOwn = row.providerInstanceId === machine.id;
    const isUnadopted = row.providerInstanceId === null && row.label === machine.label;
    if (isItsOwn || isUnadopted) fail(world, `${machine.id} of ${row.attemptId} (${row.status}) was destroyed`);
  }
}

/** After every stretch. */
function watch(world: World): void {
  for (const account of world.accounts.values()) {
    const alive = new Map<string, number>();
    for (const { label, isForeign } of account.machines.values()) {
      if (!isForeign && label !== null) alive.set(label, (alive.get(label) ?? 0) + 1);
    }
    for (const [label, count] of alive) {
      if (count > 1 && !world.injected.has(label)) fail(world, `${count} machines with ${label}`);
    }
    const live = world.rows.live(account.provider);
    if (new Set(live.map((row) => row.label)).size < live.length) fail(world, 'two live rows share a label');
    for (const orphan of listOrphans(world, account.provider)) {
      if ((world.missedBy.get(orphan) ?? 0) >= 2) fail(world, `orphan ${orphan} was not found by two reconciles`);
    }
  }
}

/** Machines with our label that no live row accounts for, older than the list's lag. */
function listOrphans(world: World, provider: ProviderName): string[] {
  const live = world.rows.live(provider);
  return [...accountOf(world, provider).machines.values()]
    .filter(({ isForeign, label }) => !isForeign && label !== null)
    .filter((machine) => world.loop.now - machine.bornAt >= LIST_LAG_MS)
    .filter((machine) => !live.some((row) => row.label === machine.label))
    .map((machine) => machine.id);
}

function noteMissedOrphans(world: World, orphans: string[]): void {
  for (const id of orphans) {
    if (!world.rows.findings.some((one) => one.providerInstanceId === id)) {
      world.missedBy.set(id, (world.missedBy.get(id) ?? 0) + 1);
    }
  }
}

function recordGone(world: World, row: ModelAttempt): void {
  if (hasMachine(world, row)) fail(world, `${row.attemptId} is called gone, and its machine is there`);
  world.rows.markGone(row, world.loop.now);
  world.gone.push({ provider: row.provider, at: world.loop.now });
}

function hasMachine(world: World, row: ModelAttempt): boolean {
  const { machines } = accountOf(world, row.provider);
  if (row.providerInstanceId !== null) return machines.has(row.providerInstanceId);
  return [...machines.values()].some((machine) => machine.label === row.label && !world.injected.has(row.label));
}

/** Trouble is over: after some reconciles everything of ours is where its row says, and nothing else of ours is anywhere. */
async function calmDown(world: World, providers: ProviderName[]): Promise<void> {
  const { loop, rows } = world;
  for (const account of world.accounts.values()) {
    account.faults = { lostAnswers: 0, lostRequests: 0, refusals: 0, errors: 0, lies: 0, slowDestroys: 0 };
  }
  for (let tick = 0; tick < 4; tick++) {
    // Past the hour after which a baseline is too old to doubt a drop: a label with many injected twins is destroyed as one.
    loop.passTime(3_700_000);
    for (const provider of providers) loop.spawn('reconcile', () => reconcile(world, provider));
    await loop.run({ crashChance: 0, maxStretches: 20_000, afterEach: () => watch(world) });
  }
  for (const provider of providers) {
    const machines = [...accountOf(world, provider).machines.values()].filter((machine) => !machine.isForeign);
    const live = rows.live(provider);
    for (const machine of machines) {
      if (!live.some((row) => row.providerInstanceId === machine.id)) fail(world, `orphan ${machine.id} is left`);
    }
    for (const row of live) {
      if (!hasMachine(world, row)) fail(world, `${row.attemptId} is ${row.status} and has no machine`);
      if (row.status === 'destroying' || row.status === 'lost') fail(world, `${row.attemptId} is ${row.status} still`);
    }
  }
  const found = rows.findings.filter((one) => one.class === 'orphan' || one.class === 'duplicate');
  world.report.counts.orphans = found.length;
  world.report.counts.findings = rows.findings.length;
  for (const account of world.accounts.values()) {
    for (const count of account.bought.values()) world.report.counts.bought += count;
  }
}

function fail(world: World, problem: string): void {
  if (!world.report.problems.includes(problem)) world.report.problems.push(problem);
}

function accountOf(world: World, provider: ProviderName): SharedAccount {
  return world.accounts.get(provider) as SharedAccount;
}

function newAttemptId(world: World): string {
  return formatId(
    'attempt',
    Uint8Array.from({ length: 10 }, () => world.random.below(256)),
  );
}
