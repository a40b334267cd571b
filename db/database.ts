/**
 * The database: one pool of connections to Postgres under the program's least-privilege role. This module opens it, sets how
 * values arrive and repeats what is safe to repeat; the statements live in one file per aggregate.
 */
import { Kysely, PostgresDialect, type RawBuilder, type Transaction } from 'kysely';
import pg from 'pg';
import type { Schema } from './schema.ts';

/** The role the running program takes; it can read and write rows but not change the schema or rewrite the audit log. */
export const APP_ROLE = 'muster_app';

export type Db = Kysely<Schema>;
export type Tx = Transaction<Schema>;
/** A statement's home: the pool or a transaction. */
export type Executor = Db | Tx;

export interface DatabaseOptions {
  url: string;
  /** `null`: the login's own rights (migrations only). Default: APP_ROLE. */
  role?: string | null;
  poolSize?: number;
  applicationName: string;
  /** Certificate authority of a remote server, PEM text. */
  ca?: string | null;
  /** Told of errors on idle connections (the server went away); they heal by themselves. */
  onIdleError?: (error: Error) => void;
}

export interface Database {
  kysely: Db;
  pool: pg.Pool;
  /** A connection of its own outside the pool, for LISTEN. The caller ends it. */
  connectListener(): Promise<pg.Client>;
  close(): Promise<void>;
}

export function openDatabase(options: DatabaseOptions): Database {
  const settings = connectionSettings(options);
  const pool = new pg.Pool({
    ...settings,
    max: options.poolSize ?? 10,
    idleTimeoutMillis: 30_000,
    connectionTimeoutMillis: 10_000,
  });
  pool.on('error', (error) => options.onIdleError?.(error));
  // One that ends while it is lent fails the statement that waits for it, and would end the process with its own event.
  pool.on('connect', (client) => client.on('error', () => {}));
  const kysely = new Kysely<Schema>({ dialect: new PostgresDialect({ pool }) });
  return {
    kysely,
    pool,
    async connectListener() {
      const client = new pg.Client({
        ...settings,
        application_name: `${options.applicationName}-listen`,
        keepAlive: true,
      });
      await client.connect();
      return client;
    },
    async close() {
      await kysely.destroy();
      if (!pool.ended) await pool.end(); // Kysely leaves a pool alone through which it never spoke
    },
  };
}

/** Whether a statement failed because the server was away: nothing of an uncommitted transaction remains. */
export function isConnectionError(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = (error as { code?: string }).code ?? '';
  return (
    /^(08|57P0)/.test(code) ||
    ['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT'].includes(code) ||
    /Connection terminated|connection timeout|timeout exceeded when trying to connect|Client has encountered a connection error|the database system is/i.test(
      error.message,
    )
  );
}

/**
 * Runs a statement that is sent very often as a prepared one, parsed and planned once on each connection. Its text must be the same at
 * each call of that name.
 */
export async function runPrepared<Row extends pg.QueryResultRow>(
  { kysely, pool }: Pick<Database, 'kysely' | 'pool'>,
  name: string,
  statement: RawBuilder<Row>,
): Promise<Row[]> {
  const { sql: text, parameters } = statement.compile(kysely);
  const { rows } = await pool.query<Row>({ name, text, values: [...parameters] });
  return rows;
}

/** Tries of a transaction that lost a deadlock: the other one is through by then. */
const DEADLOCK_TRIES = 4;
const DEADLOCK = '40P01';

/**
 * Runs `work` in a transaction, again when Postgres chose it as the victim of a deadlock. Rows are locked in one order (operation,
 * stack, instance, attempt), so that should be rare.
 */
export async function inTransaction<T>(db: Db, work: (tx: Tx) => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await db.transaction().execute(work);
    } catch (error) {
      if ((error as { code?: string }).code !== DEADLOCK || tries === DEADLOCK_TRIES) throw error;
    }
  }
}

/**
 * Repeats `work` while the server is away, up to `forMs`. Only for work that is guarded or idempotent: a commit whose answer was
 * lost runs again.
 */
export async function retryWhileAway<T>(work: () => Promise<T>, forMs: number): Promise<T> {
  const deadline = performance.now() + forMs;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!isConnectionError(error) || performance.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

function connectionSettings(options: DatabaseOptions): pg.ClientConfig {
  const role = options.role === undefined ? APP_ROLE : options.role;
  const settings: pg.ClientConfig = {
    connectionString: options.url,
    application_name: options.applicationName,
    types: { getTypeParser },
  };
  if (role !== null) settings.options = `-c role=${role}`;
  if (options.ca) settings.ssl = { ca: options.ca };
  return settings;
}

const INT8 = 20;

function getTypeParser(oid: number, format?: 'text' | 'binary'): (text: string) => unknown {
  if (oid === INT8) return (text) => BigInt(text);
  return pg.types.getTypeParser(oid, format ?? 'text') as (text: string) => unknown;
}
