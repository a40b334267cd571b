/**
 * Brings a database to the current schema: our tables (Kysely migrations), the queue's tables, the program's role and its rights.
 * Safe with any number of replicas starting at once: an advisory lock lets one work while the others wait and then find it done.
 */
import { Kysely, PostgresDialect, sql } from 'kysely';
import { Migrator, type MigrationProvider } from 'kysely/migration';
import pg from 'pg';
import { APP_ROLE } from './database.ts';
import { prepareQueue, QUEUE_SCHEMA } from './queue.ts';

const MIGRATIONS: Record<string, () => Promise<{ up(db: Kysely<unknown>): Promise<void> }>> = {
  '0001-foundation': () => import('./migrations/0001-foundation.ts'),
  '0002-offer-stock': () => import('./migrations/0002-offer-stock.ts'),
  '0003-nodes': () => import('./migrations/0003-nodes.ts'),
  '0004-usage': () => import('./migrations/0004-usage.ts'),
  '0005-prices': () => import('./migrations/0005-prices.ts'),
  '0006-webhooks': () => import('./migrations/0006-webhooks.ts'),
  '0007-sessions': () => import('./migrations/0007-sessions.ts'),
  '0008-plans': () => import('./migrations/0008-plans.ts'),
  '0009-safety': () => import('./migrations/0009-safety.ts'),
  '0010-sourcing': () => import('./migrations/0010-sourcing.ts'),
  '0011-pools': () => import('./migrations/0011-pools.ts'),
  '0012-ready-samples': () => import('./migrations/0012-ready-samples.ts'),
  '0013-interruptions': () => import('./migrations/0013-interruptions.ts'),
  '0014-offer-listings': () => import('./migrations/0014-offer-listings.ts'),
  '0015-idle-pools': () => import('./migrations/0015-idle-pools.ts'),
  '0017-reserved-burn': () => import('./migrations/0017-reserved-burn.ts'),
  '0020-stacks': () => import('./migrations/0020-stacks.ts'),
  '0021-clusters': () => import('./migrations/0021-clusters.ts'),
  '0022-hosts': () => import('./migrations/0022-hosts.ts'),
  '0022-stack-findings': () => import('./migrations/0022-stack-findings.ts'),
  '0022-stacks-pending': () => import('./migrations/0022-stacks-pending.ts'),
  '0022-vouched-nodes': () => import('./migrations/0022-vouched-nodes.ts'),
  '0022-wound-down-clusters': () => import('./migrations/0022-wound-down-clusters.ts'),
  '0023-orders': () => import('./migrations/0023-orders.ts'),
  '0024-pods': () => import('./migrations/0024-pods.ts'),
  '0025-snapshots': () => import('./migrations/0025-snapshots.ts'),
  '0026-hibernations': () => import('./migrations/0026-hibernations.ts'),
  '0027-failovers': () => import('./migrations/0027-failovers.ts'),
  '0028-standbys': () => import('./migrations/0028-standbys.ts'),
  '0029-state': () => import('./migrations/0029-state.ts'),
  '0031-update-events': () => import('./migrations/0031-update-events.ts'),
  '0032-master-keys': () => import('./migrations/0032-master-keys.ts'),
  '0034-pod-events': () => import('./migrations/0034-pod-events.ts'),
  '0036-writer-since': () => import('./migrations/0036-writer-since.ts'),
};

/** Any constant: the key of the advisory lock that migrations of all replicas share. */
const LOCK_KEY = 7_306_188_215;

/** @param url a login that may create tables and roles. Throws what the first failing migration threw; nothing is half-done. */
export async function migrateDatabase(url: string, ca: string | null = null): Promise<void> {
  const settings: pg.ClientConfig = {
    connectionString: url,
    application_name: 'muster-migrate',
    ...(ca ? { ssl: { ca } } : {}),
  };
  const guard = new pg.Client(settings);
  await guard.connect();
  try {
    await guard.query('select pg_advisory_lock($1)', [LOCK_KEY]);
    const pool = new pg.Pool({ ...settings, max: 2 });
    pool.on('error', () => undefined); // a connection that is closed while idle; the statement after it tells
    const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) });
    try {
      await runMigrations(db);
      await prepareQueue(settings);
      await grantRights(db);
    } finally {
      await db.destroy();
    }
  } finally {
    await guard.end();
  }
}

async function runMigrations(db: Kysely<unknown>): Promise<void> {
  const provider: MigrationProvider = {
    async getMigrations() {
      const entries = await Promise.all(
        Object.entries(MIGRATIONS).map(async ([name, load]) => [name, await load()] as const),
      );
      return Object.fromEntries(entries);
    },
  };
  const { error } = await new Migrator({ db, provider }).migrateToLatest();
  if (error) throw error instanceof Error ? error : new Error('migration failed', { cause: error });
}

/** Rows may be read and written; the audit log only appended to (prune deletes operation events and ticks, never audit). */
async function grantRights(db: Kysely<unknown>): Promise<void> {
  const statements = [
    `do $$ begin
       if not exists (select from pg_roles where rolname = '${APP_ROLE}') then create role ${APP_ROLE} nologin; end if;
     exception when duplicate_object or unique_violation then null; end $$`,
    // A login that is no superuser must be a member of the role to take it; one that may not grant it is one already.
    `do $$ begin
       if not pg_has_role(current_user, '${APP_ROLE}', 'member') then execute format('grant ${APP_ROLE} to %I', current_user); end if;
     end $$`,
    `grant usage on schema public, ${QUEUE_SCHEMA} to ${APP_ROLE}`,
    `grant select, insert, update, delete on all tables in schema public to ${APP_ROLE}`,
    `grant select, insert, update, delete on all tables in schema ${QUEUE_SCHEMA} to ${APP_ROLE}`,
    `grant usage on all sequences in schema public, ${QUEUE_SCHEMA} to ${APP_ROLE}`,
    `grant execute on all functions in schema ${QUEUE_SCHEMA} to ${APP_ROLE}`,
    `revoke update, delete on audit_log from ${APP_ROLE}`,
    `revoke update on price_changes from ${APP_ROLE}`,
    `revoke all on kysely_migration, kysely_migration_lock from ${APP_ROLE}`,
  ];
  for (const statement of statements) await sql.raw(statement).execute(db);
}
