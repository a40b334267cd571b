/** A database of a test file's own with a deployment, an org and a market in it, and time that passes when the test says so. */
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { acceptProvision } from '../../db/accept-provision.ts';
import type { Actor } from '../../db/audit.ts';
import { openDatabase, type Database, type Db } from '../../db/database.ts';
import { registerDeployment } from '../../db/deployment.ts';
import type { InstanceRow } from '../../db/instances.ts';
import { newId } from '../../db/new-id.ts';
import { replaceOffers } from '../../db/offers.ts';
import type { OperationRow } from '../../db/operations.ts';
import { insertOrg } from '../../db/orgs.ts';
import { recordBelievable, registerProvider } from '../../db/providers.ts';
import { createQueue, type Queue } from '../../db/queue.ts';
import type { Offer } from '../../domain/offer.ts';
import type { ProvisionRequest } from '../../domain/provision-request.ts';
import { createTestDatabase } from './database.ts';

export const DEPLOYMENT_ID = 'test-fleet';
export const ACTOR: Actor = { kind: 'user', id: 'usr_test' };
export const PRICE = 350_000n;

export interface FleetDatabase {
  url: string;
  database: Database;
  db: Db;
  queue: Queue;
  orgId: string;
  /** Accepts a provision as the API does; one instance for each name. */
  provision(
    change?: Partial<ProvisionRequest>,
    names?: string[],
  ): Promise<{ operation: OperationRow; instances: InstanceRow[] }>;
  /** Another org of the same deployment. */
  makeOrg(): Promise<string>;
  /** Puts `count` offers of one machine each on the market: offer-1 on machine-1, offer-2 on machine-2, … */
  listOffers(count: number): Promise<void>;
  /**
   * Lets time pass by making every recorded moment so much older, which nothing can tell from waiting. Only while no step runs: what a
   * process holds in memory stays as young as it is.
   */
  passTime(ms: number): Promise<void>;
  /** Runs SQL as the owner of the tables. */
  asOwner<Row extends pg.QueryResultRow>(text: string): Promise<Row[]>;
  close(): Promise<void>;
}

export const REQUEST: ProvisionRequest = {
  gpu: 'RTX 4090',
  gpuCount: 1,
  minGpuMemoryGib: null,
  diskGib: 40,
  image: 'example/image:1',
  maxPriceMicroUsdPerHour: 600_000,
  providers: [],
  regions: [],
  minReliability: null,
  interruptible: false,
  strategy: 'coldstart',
  raceWidth: 1,
  maxRaceCostMicroUsd: 10_000_000,
  sshPublicKeys: [],
  envNames: [],
  envSealed: null,
  onStart: null,
  maxLifetimeMs: 12 * 3_600_000,
  bootTimeoutMs: 900_000,
};

export function makeOffer(number: number, change: Partial<Offer> = {}): Offer {
  return {
    provider: 'vastai',
    providerOfferId: `offer-${number}`,
    machineId: `machine-${number}`,
    hostId: null,
    gpu: 'RTX 4090',
    gpuCount: 1,
    gpuMemoryGib: 24,
    priceMicroUsdPerHour: PRICE,
    pricedDiskGib: 40,
    diskMicroUsdPerGibHour: 100n,
    floorMicroUsdPerHour: null,
    interruptible: false,
    region: 'SE',
    location: 'Sweden',
    reliability: 0.99,
    verified: true,
    diskGib: 500,
    cpuCores: 16,
    memoryGib: 64,
    inetDownMbps: 900,
    inetUpMbps: 900,
    cudaVersion: '12.8',
    driverVersion: '570.1',
    directPorts: 10,
    maxDurationSeconds: null,
    stock: 1,
    confidence: 0.9,
    ...change,
  };
}

export async function createFleetDatabase(
  caps: { maxInstances?: number; maxBurnMicroUsdPerHour?: bigint; poolSize?: number } = {},
): Promise<FleetDatabase> {
  const testDatabase = await createTestDatabase();
  const { url } = testDatabase;
  const database = openDatabase({ url, applicationName: 'fleet-test', poolSize: caps.poolSize ?? 10 });
  const owner = new pg.Pool({ connectionString: url, max: 1, application_name: 'fleet-test-owner' });
  owner.on('error', () => undefined); // its end does not wait for the connection's, which a forced drop may cut
  const db = database.kysely;
  const queue = createQueue(db);
  await queue.start();
  await registerDeployment(db, {
    deploymentId: DEPLOYMENT_ID,
    mode: 'sandbox',
    maxInstances: caps.maxInstances ?? 1_000,
    maxBurnMicroUsdPerHour: caps.maxBurnMicroUsdPerHour ?? 1_000_000_000n,
  });
  await registerProvider(db, 'vastai', 'sandbox');
  const makeOrg = async () =>
    (await db.transaction().execute((tx) => insertOrg(tx, `org-${randomBytes(5).toString('hex')}`))).id;
  const orgId = await makeOrg();
  let ageing: string | null = null;
  return {
    url,
    database,
    db,
    queue,
    orgId,
    makeOrg,
    provision: (change = {}, names = [`box-${randomBytes(4).toString('hex')}`]) =>
      db.transaction().execute((tx) =>
        acceptProvision(tx, queue, {
          orgId,
          actor: ACTOR,
          names,
          request: { ...REQUEST, ...change },
          consumer: null,
          overrideReason: null,
          stackId: newId('stack'),
        }),
      ),
    async listOffers(count) {
      const offers = Array.from({ length: count }, (_, index) => makeOffer(index + 1));
      await replaceOffers(db, 'vastai', offers, new Date());
      await recordBelievable(db, 'vastai', { listing: 'offers', count });
    },
    async passTime(ms) {
      ageing ??= await describeAgeing(owner);
      const statement = ageing.replaceAll('AGE', `interval '${Math.round(ms)} milliseconds'`);
      // It touches every row, as the queue does in its own order: the one of the two that loses is asked again.
      for (let tried = 1; ; tried++) {
        try {
          await owner.query(statement);
          return;
        } catch (error) {
          if ((error as { code?: string }).code !== '40P01' || tried === 5) throw error;
        }
      }
    },
    asOwner: async <Row extends pg.QueryResultRow>(text: string) => (await owner.query<Row>(text)).rows,
    async close() {
      await queue.stop();
      await owner.end();
      await database.close();
      await testDatabase.drop();
    },
  };
}

/** The audit log stays as it was written; ticks are keyed by their moment. */
async function describeAgeing(owner: pg.Pool): Promise<string> {
  const { rows } = await owner.query<{ statement: string }>(
    `select format('update %I.%I set %s', table_schema, table_name,
                   string_agg(format('%1$I = %1$I - AGE', column_name), ', ')) as statement
     from information_schema.columns join information_schema.tables using (table_schema, table_name)
     where data_type = 'timestamp with time zone' and table_type = 'BASE TABLE' and is_generated = 'NEVER'
       and ((table_schema = 'public' and table_name not in ('audit_log', 'cron_ticks'))
            or (table_schema = 'pgboss' and table_name = 'job_common'))
     group by table_schema, table_name`,
  );
  return rows.map((row) => row.statement).join('; ');
}

/** Resolves with the first answer that is there; looks again at once, for at most `boundMs`. */
export async function until<T>(
  look: () => Promise<T | undefined | null | false> | T | undefined | null | false,
  what: string,
  boundMs = 10_000,
): Promise<T> {
  const deadline = performance.now() + boundMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== null && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`not within ${boundMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
