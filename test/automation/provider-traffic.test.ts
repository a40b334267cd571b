/** What a fleet at rest asks of its vendors: every cron that there is, the real clients, and the requests as they leave this process. */
import diagnostics from 'node:diagnostics_channel';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createAutomation, type Automation } from '../../automation/automation.ts';
import { noCrash } from '../../domain/crash-points.ts';
import { formatLabel } from '../../domain/label.ts';
import { PROVIDER_NAMES, type ProviderName } from '../../domain/provider.ts';
import { newId } from '../../db/new-id.ts';
import { registerProvider } from '../../db/providers.ts';
import { createEnvelope } from '../../secrets/envelope.ts';
import { startSandbox, type Sandbox } from '../../sandbox/server.ts';
import { createFleetDatabase, DEPLOYMENT_ID, type FleetDatabase } from '../support/fleet-database.ts';

const FEW = 3;
/** More than Vast.ai shows on a page. */
const MANY = 30;
const BOUND_MS = 60_000;
const CRONS = [
  'sync-offers',
  ...PROVIDER_NAMES.map((provider) => `watch-readiness-${provider}`),
  'reconcile-fleet',
  'check-interruptible',
  'expire',
  'resolve-stuck',
  'meter-usage',
  'deliver-webhooks',
  'source-capacity',
  'refill-pools',
  'prune',
];
const CHANNEL = 'undici:request:create';
const labelMac = () => 'a'.repeat(13);

let sandbox: Sandbox;
let fleet: FleetDatabase;
let automation: Automation;
/** `<provider> <method> <path>`, of every request since it was last emptied. */
let asked: string[] = [];
const record = (message: unknown) => {
  const { origin, method, path } = (message as { request: { origin: string; method: string; path: string } }).request;
  const provider = PROVIDER_NAMES.find((name) => new URL(sandbox.urls[name]).origin === new URL(origin).origin);
  if (provider) asked.push(`${provider} ${method} ${path}`);
};

beforeAll(async () => {
  sandbox = await startSandbox({ port: 0, dir: null, time: 'explicit', hasForeignMachines: false });
  fleet = await createFleetDatabase();
  const account = (provider: ProviderName) => ({
    mode: 'sandbox' as const,
    apiKey: sandbox.apiKey,
    baseUrl: sandbox.urls[provider],
    listLagMs: 0,
    rateLimits: {},
  });
  automation = await createAutomation({
    roles: ['cron'],
    database: fleet.database,
    queue: fleet.queue,
    envelope: createEnvelope(Buffer.alloc(32)),
    agentUrl: null,
    labelMac,
    deploymentId: DEPLOYMENT_ID,
    sshKey: { privateKey: '', publicKey: '' },
    stateService: null,
    owner: 'traffic',
    projectDir: '',
    dataDir: '',
    concurrency: 1,
    providers: Object.fromEntries(PROVIDER_NAMES.map((provider) => [provider, account(provider)])),
    intervals: { offerSyncMs: 60_000, readinessMs: 2_000, reconcileMs: 60_000 },
    orphans: { policy: 'destroy', graceMs: 0 },
    bootTimeoutMs: 900_000,
    sourcing: { mode: 'off', maxInstances: 5 } as never, // the rest is for buying
    webhookTargets: 'any',
    log: pino({ level: 'silent' }),
    crashPoint: noCrash,
  });
  diagnostics.subscribe(CHANNEL, record);
  // It is not started: ticks are given by hand.
  for (const provider of PROVIDER_NAMES) await registerProvider(fleet.db, provider, 'sandbox');
});
afterAll(async () => {
  diagnostics.unsubscribe(CHANNEL, record);
  await automation?.stop();
  await fleet?.close();
  await sandbox?.close();
});

/** `count` more instances that are ready, at each provider. */
async function rent(count: number): Promise<void> {
  for (const provider of PROVIDER_NAMES) {
    const names = Array.from({ length: count }, (_, index) => `${provider}-${index}-${newId('plan').slice(-6)}`);
    const { instances } = await fleet.provision({}, names);
    for (const instance of instances) {
      const id = newId('attempt');
      const label = formatLabel(DEPLOYMENT_ID, id, labelMac);
      const machine = await sandbox.placeMachine(provider, { label, origin: 'orphan', isStopped: false });
      await fleet.db
        .insertInto('attempts')
        .values({
          id,
          org_id: instance.org_id,
          instance_id: instance.id,
          stack_id: instance.stack_id,
          provider,
          label,
          status: 'ready',
          provider_instance_id: String(machine),
          purchased_at: new Date(Date.now() - 60_000),
          ready_at: new Date(Date.now() - 30_000),
          // Interruptible ones are looked after more often.
          ...(provider === 'vastai' ? { bid_micro_usd_per_hour: 100_000n } : {}),
        })
        .execute();
      await fleet.db
        .updateTable('instances')
        .set({ status: 'ready', winner_attempt_id: id })
        .where('id', '=', instance.id)
        .execute();
    }
  }
  await fleet.db.updateTable('operations').set({ status: 'succeeded', finished_at: new Date() }).execute();
}

/** All crons once, as a minute at rest has them at most. */
async function passMinute(): Promise<Map<string, string[]>> {
  const byCron = new Map<string, string[]>();
  for (const name of CRONS) {
    asked = [];
    await automation.scheduler?.runNow(name);
    if (asked.length > 0) byCron.set(name, asked);
  }
  return byCron;
}

/** Without what tells one page from the next; each once. */
const listings = (requests: string[] = []) =>
  [...new Set(requests.map((request) => request.replace(/\?.*/, '')))].sort();

it(
  'asks as much for three instances at each vendor as for thirty: a listing of offers and one of instances',
  async () => {
    await rent(FEW);
    await passMinute(); // what is new is settled first
    const few = await passMinute();
    expect([...few.keys()]).toEqual(['sync-offers', 'reconcile-fleet', 'check-interruptible']);
    for (const provider of PROVIDER_NAMES) {
      const own = (few.get('reconcile-fleet') ?? []).filter((request) => request.startsWith(provider));
      expect(own, 'one listing of instances').toHaveLength(1);
    }
    expect(few.get('check-interruptible'), 'only where there are such machines').toHaveLength(1);

    await rent(MANY - FEW);
    // TensorDock's lists name no ports: each new machine is read once, at most 20 in a listing.
    for (let listing = 0; listing < 2; listing++) await automation.scheduler?.runNow('reconcile-fleet');
    const many = await passMinute();
    expect(many.get('sync-offers')).toEqual(expect.arrayContaining(few.get('sync-offers') as string[]));
    expect(many.get('sync-offers')).toHaveLength(few.get('sync-offers')?.length ?? 0);
    for (const cron of ['reconcile-fleet', 'check-interruptible']) {
      const requests = many.get(cron) ?? [];
      expect(listings(requests), 'pages of the same list, no machine by itself').toEqual(listings(few.get(cron)));
      expect(requests.length, 'no page twice').toBe(new Set(requests).size);
    }
    expect([...many.keys()]).toEqual([...few.keys()]);
    const { count } = await fleet.db
      .selectFrom('attempts')
      .select(({ fn }) => fn.countAll<bigint>().as('count'))
      .where('status', '=', 'ready')
      .executeTakeFirstOrThrow();
    expect(Number(count), 'all still believed').toBe(MANY * PROVIDER_NAMES.length);
  },
  BOUND_MS,
);
