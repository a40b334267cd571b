import { randomBytes } from 'node:crypto';
import type { Kysely } from 'kysely';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openDatabase, type Database, type Db } from '../../db/database.ts';
import { holdMasterKeys, listMasterKeys, MasterKeyError, type KeyHolder } from '../../db/key-holders.ts';
import { up } from '../../db/migrations/0032-master-keys.ts';
import { resealEverything } from '../../db/reseal.ts';
import { SEALED_PLACES } from '../../db/sealed-places.ts';
import { createEnvelope, type Envelope } from '../../secrets/envelope.ts';
import { identityAt, type SealedPlace } from '../../secrets/sealed-place.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

const [OLD, NEW, STRANGE] = [randomBytes(32), randomBytes(32), randomBytes(32)] as const;
/** Before, during and after a rotation. */
const before = createEnvelope(OLD, [NEW]);
const rotating = createEnvelope(NEW, [OLD]);
const after = createEnvelope(NEW);
const [OLD_ID, NEW_ID] = [before.keyIds[0], after.keyIds[0]];
const QUICK = { settleMs: 0 };

/** What a value belongs to where that is not its row. */
const OWNERS: Partial<Record<SealedPlace, string>> = {
  'instances.request.envSealed': 'stack_id',
  'operations.input.accessSealed': 'target_id',
  'state_stacks.key_sealed': 'key_owner',
};

let testDatabase: TestDatabase;
let database: Database;
let db: Db;
let owner: pg.Pool;
let holders: KeyHolder[];
beforeAll(async () => {
  testDatabase = await createTestDatabase();
  database = openDatabase({ url: testDatabase.url, applicationName: 'reseal-test' });
  db = database.kysely;
  owner = new pg.Pool({ connectionString: testDatabase.url, max: 1 });
  owner.on('error', () => undefined);
  await loosenTables();
});
beforeEach(async () => {
  holders = [];
  const tables = [...new Set(SEALED_PLACES.map((place) => place.split('.')[0])), 'master_keys', 'key_holders'];
  await owner.query(tables.map((table) => `delete from ${table}`).join('; '));
});
afterEach(async () => {
  for (const holder of holders) await holder.release();
});
afterAll(async () => {
  await owner?.end();
  await database?.close();
  await testDatabase?.drop();
});

async function hold(envelope: Envelope): Promise<KeyHolder> {
  const holder = await holdMasterKeys(db, envelope, { waitMs: 0 });
  holders.push(holder);
  return holder;
}

/** Rows of this test hold what is sealed and nothing else. */
async function loosenTables(): Promise<void> {
  const tables = [...new Set(SEALED_PLACES.map((place) => `'${place.split('.')[0]}'::regclass`))].join(', ');
  const { rows } = await owner.query<{ statement: string }>(
    `select format('alter table %s drop constraint %I cascade', conrelid::regclass, conname) as statement
     from pg_constraint where contype in ('c', 'f') and conrelid in (${tables})
     union all
     select format('alter table %s alter column %I drop not null', attrelid::regclass, attname)
     from pg_attribute where attrelid in (${tables}) and attnum > 0 and attnotnull and not attisdropped
       and not exists (select from pg_index where indrelid = attrelid and indisprimary and attnum = any(indkey))
     union all
     select format('drop trigger %I on %s', tgname, tgrelid::regclass) from pg_trigger
     where tgrelid in (${tables}) and not tgisinternal`,
  );
  await owner.query(rows.map((row) => row.statement).join('; '));
}

async function seed(place: SealedPlace, envelope: Envelope, name: string): Promise<void> {
  const [table, column, member] = place.split('.') as [string, string, string?];
  const keys = await primaryKeyOf(table);
  const belongsTo = OWNERS[place];
  const sealed = envelope.seal(
    `secret of ${place}`,
    identityAt(place, belongsTo === undefined ? name : `${name}-owner`),
  );
  const values: Record<string, unknown> = {
    ...Object.fromEntries(keys.map((key) => [key.name, key.type === 'bytea' ? Buffer.from(name) : name])),
    ...(belongsTo === undefined ? {} : { [belongsTo]: `${name}-owner` }),
    [column]: member === undefined ? sealed : JSON.stringify({ other: 1, [member]: sealed }),
  };
  const columns = Object.keys(values);
  await owner.query(
    `insert into ${table} (${columns.join(', ')}) values (${columns.map((_, index) => `$${index + 1}`).join(', ')})`,
    Object.values(values),
  );
}

const primaryKeys = new Map<string, { name: string; type: string }[]>();

async function primaryKeyOf(table: string): Promise<{ name: string; type: string }[]> {
  const known = primaryKeys.get(table);
  if (known) return known;
  const { rows } = await owner.query<{ name: string; type: string }>(
    `select attname as name, format_type(atttypid, null) as type from pg_index join pg_attribute on attrelid = indrelid and attnum = any(indkey)
     where indisprimary and indrelid = $1::regclass order by attnum`,
    [table],
  );
  primaryKeys.set(table, rows);
  return rows;
}

async function seedAll(envelope: Envelope, rows = 1): Promise<number> {
  for (const place of SEALED_PLACES) {
    for (let row = 0; row < rows; row++) await seed(place, envelope, `${place}-${row}`);
  }
  return SEALED_PLACES.length * rows;
}

/** Columns of any table, JSON included, that hold the text, except where the keys themselves are listed. */
async function findColumnsWith(text: string): Promise<string[]> {
  const { rows: columns } = await owner.query<{ statement: string }>(
    `select format('select %L as place where exists (select from %I where %I::text like $1)',
                   table_name || '.' || column_name, table_name, column_name) as statement
     from information_schema.columns join information_schema.tables using (table_schema, table_name)
     where table_schema = 'public' and table_type = 'BASE TABLE' and table_name not in ('master_keys', 'key_holders')
       and data_type in ('text', 'json', 'jsonb', 'ARRAY', 'character varying')`,
  );
  const { rows } = await owner.query<{ place: string }>(
    `${columns.map((column) => column.statement).join(' union all ')} order by place`,
    [`%${text}%`],
  );
  return rows.map((row) => row.place);
}

async function openAll(envelope: Envelope): Promise<string[]> {
  const opened: string[] = [];
  for (const place of SEALED_PLACES) {
    const [table, column, member] = place.split('.') as [string, string, string?];
    const value = member === undefined ? column : `${column}->>'${member}'`;
    const { rows } = await owner.query<{ sealed: string; owner: string }>(
      `select ${value} as sealed, ${OWNERS[place] ?? `coalesce(to_jsonb(t)->>'id', to_jsonb(t)->>'cluster_id', to_jsonb(t)->>'instance_id', to_jsonb(t)->>'name')`} as owner
       from ${table} t where ${value} is not null`,
    );
    for (const row of rows) opened.push(envelope.open(row.sealed, identityAt(place, row.owner)));
  }
  return opened;
}

const columnOf = (place: string) => place.split('.').slice(0, 2).join('.');

describe('the places of sealed values', () => {
  it('are all columns of the schema that are named so: one that is forgotten fails here', async () => {
    const { rows } = await owner.query<{ place: string }>(
      `select table_name || '.' || column_name as place from information_schema.columns
       where table_schema = 'public' and column_name ~ 'sealed$' order by 1`,
    );
    const plain = SEALED_PLACES.filter((place) => place.split('.').length === 2);
    expect(rows.map((row) => row.place)).toEqual([...plain].sort());
  });

  it('bind what lies in each to its row', () => {
    for (const place of SEALED_PLACES) {
      const sealed = after.seal('a', identityAt(place, 'one'));
      expect(after.open(sealed, identityAt(place, 'one'))).toBe('a');
      expect(() => after.open(sealed, identityAt(place, 'another'))).toThrow(/belongs elsewhere/);
    }
  });
});

describe('a rotation', () => {
  it('leaves nothing of the old key anywhere in the database, and everything opens without it', async () => {
    const count = await seedAll(before, 3);
    const { rows: requests } = await owner.query(`select request - 'envSealed' as rest from instances`);
    expect(await findColumnsWith(OLD_ID)).toEqual([...new Set(SEALED_PLACES.map(columnOf))].sort());
    await (await hold(before)).release();
    await hold(rotating);
    const report = await resealEverything(db, rotating, { ...QUICK, batch: 2 });
    expect(report).toEqual({ resealed: count, broken: [], retired: [OLD_ID], inUse: [] });
    expect(await findColumnsWith(OLD_ID)).toEqual([]);
    const opened = await openAll(after);
    expect(opened).toHaveLength(count);
    expect(new Set(opened)).toEqual(new Set(SEALED_PLACES.map((place) => `secret of ${place}`)));
    expect((await owner.query(`select request - 'envSealed' as rest from instances`)).rows).toEqual(requests);
    await hold(after); // a process without the old key
  });

  it('finds an environment whose instance came to another stack', async () => {
    const sealed = before.seal('{}', identityAt('instances.request.envSealed', 'stk_first'));
    await owner.query(`insert into instances (id, stack_id, request) values ('ins_a', 'stk_second', $1)`, [
      JSON.stringify({ sealedToStack: 'stk_first', envSealed: sealed }),
    ]);
    expect(await resealEverything(db, rotating, QUICK)).toMatchObject({ resealed: 1, broken: [] });
  });

  it('seals keys of stacks that share one to the stack that it was made for', async () => {
    const shared = before.seal('key', identityAt('state_stacks.key_sealed', 'first'));
    await owner.query(
      `insert into state_stacks (uuid, project, name, key_owner, key_sealed) values ('first', 'p', 'a', 'first', $1), ('second', 'p', 'b', 'first', $1)`,
      [shared],
    );
    expect(await resealEverything(db, rotating, QUICK)).toMatchObject({ resealed: 2, broken: [] });
    const { rows } = await owner.query<{ key_sealed: string }>('select key_sealed from state_stacks');
    expect(rows.map((row) => after.open(row.key_sealed, identityAt('state_stacks.key_sealed', 'first')))).toEqual([
      'key',
      'key',
    ]);
  });

  it('that dies between two transactions goes on where it was', async () => {
    const count = await seedAll(before, 2);
    await (await hold(before)).release();
    await hold(rotating);
    let batches = 0;
    const dying = () => {
      if (++batches === 7) throw new Error('killed');
    };
    await expect(resealEverything(db, rotating, { ...QUICK, batch: 1, afterBatch: dying })).rejects.toThrow('killed');
    const [old, fresh] = [await findColumnsWith(OLD_ID), await findColumnsWith(NEW_ID)];
    expect(old.length).toBeGreaterThan(0);
    expect(fresh.length).toBeGreaterThan(0);
    expect(await openAll(before)).toHaveLength(count);
    expect(await openAll(rotating)).toHaveLength(count);
    const report = await resealEverything(db, rotating, QUICK);
    expect(report.resealed).toBeLessThan(count);
    expect(report.retired).toEqual([OLD_ID]);
    expect(await openAll(after)).toHaveLength(count);
    expect(await resealEverything(db, rotating, QUICK)).toEqual({ resealed: 0, broken: [], retired: [], inUse: [] });
  });

  it('goes on while others read and write, under either key, and calls the old one free only when nobody seals with it', async () => {
    const count = (await seedAll(before)) + 9;
    for (let row = 1; row < 10; row++) await seed('credentials.sealed', before, `credentials.sealed-${row}`);
    const sealer = await hold(before);
    await hold(rotating);
    let isOver = false;
    const replace = async (envelope: Envelope) => {
      for (let turn = 0; !isOver; turn++) {
        const id = `credentials.sealed-${turn % 10}`;
        const sealed = envelope.seal('secret of credentials.sealed', identityAt('credentials.sealed', id));
        await db.updateTable('credentials').set({ sealed }).where('id', '=', id).execute();
      }
    };
    const read = async (envelope: Envelope) => {
      while (!isOver) {
        const rows = await db.selectFrom('credentials').select(['id', 'sealed']).execute();
        for (const row of rows) {
          expect(envelope.open(row.sealed, identityAt('credentials.sealed', row.id))).toBe(
            'secret of credentials.sealed',
          );
        }
      }
    };
    const others = Promise.all([replace(before), replace(rotating), read(before), read(rotating)]);
    const first = await resealEverything(db, rotating, { ...QUICK, batch: 3 });
    isOver = true;
    await others;
    expect(first.retired).toEqual([]);
    expect(first.inUse).toMatchObject([{ id: OLD_ID, sealers: [sealer.process] }]);
    await sealer.release();
    expect(await resealEverything(db, rotating, QUICK)).toMatchObject({ retired: [OLD_ID], inUse: [] });
    expect(await openAll(after)).toHaveLength(count);
  });

  it('waits for nobody who holds a row, and comes back to it', async () => {
    await seedAll(before, 2);
    const held = await database.pool.connect();
    await held.query('begin');
    await held.query('select from credentials for update');
    let batches = 0;
    const report = await resealEverything(db, rotating, {
      ...QUICK,
      async afterBatch() {
        if (++batches === SEALED_PLACES.length + 3) await held.query('rollback');
      },
    }).finally(() => held.release());
    expect(report).toMatchObject({ resealed: SEALED_PLACES.length * 2, broken: [] });
    expect(batches).toBeGreaterThan(SEALED_PLACES.length);
  });

  it('changes nothing where a row names a key that nobody has, and says which', async () => {
    await seedAll(before);
    await seed('pods.secrets_sealed', createEnvelope(STRANGE), 'pod_lost');
    const run = resealEverything(db, rotating, QUICK);
    const [lost] = createEnvelope(STRANGE).keyIds;
    await expect(run).rejects.toThrow(
      new RegExp(`pods.secrets_sealed: 1 sealed with the key ${lost}, such as that of pod_lost`),
    );
    expect(await findColumnsWith(NEW_ID)).toEqual([]);
  });

  it('passes by what was copied to another row, names it, and keeps its key in use', async () => {
    const count = await seedAll(before);
    await owner.query(`insert into pods (id, secrets_sealed) select 'pod_thief', secrets_sealed from pods`);
    await (await hold(before)).release();
    await hold(rotating);
    const report = await resealEverything(db, rotating, QUICK);
    expect(report).toMatchObject({ resealed: count, broken: ['pods.secrets_sealed pod_thief'], retired: [] });
    expect(report.inUse).toMatchObject([{ id: OLD_ID, sealers: [] }]);
    await owner.query(`delete from pods where id = 'pod_thief'`);
    expect((await resealEverything(db, rotating, QUICK)).retired).toEqual([OLD_ID]);
  });
});

describe('the keys of a process', () => {
  it('must be those that something is sealed with', async () => {
    await (await hold(before)).release();
    const wrong = createEnvelope(STRANGE);
    const start = holdMasterKeys(db, wrong, { waitMs: 0 });
    await expect(start).rejects.toThrow(MasterKeyError);
    await expect(start).rejects.toThrow(
      `sealed with the master key ${OLD_ID}, which is not here; configured: ${wrong.keyIds[0]}`,
    );
    await expect(hold(after)).rejects.toThrow(OLD_ID);
    await hold(rotating);
  });

  it('do not seal while another process runs that could not open it', async () => {
    const blind = await hold(createEnvelope(OLD));
    const start = holdMasterKeys(db, rotating, { waitMs: 0 });
    await expect(start).rejects.toThrow(`do not know the master key ${NEW_ID}`);
    await expect(start).rejects.toThrow(blind.process);
    expect((await listMasterKeys(db)).map((key) => key.id)).toEqual([OLD_ID]);
    const waiting = holdMasterKeys(db, rotating, { onWait: () => void blind.release() });
    holders.push(await waiting);
  });

  it('need not wait for a process that is not seen any more', async () => {
    await hold(createEnvelope(OLD));
    await owner.query(`update key_holders set seen_at = now() - interval '16 seconds'`);
    await hold(rotating);
    expect((await listMasterKeys(db)).map((key) => key.sealers.length)).toEqual([0, 1]);
  });

  it('come back from retirement with a process that seals with them again', async () => {
    await (await hold(before)).release();
    const holder = await hold(rotating);
    expect((await resealEverything(db, rotating, QUICK)).retired).toEqual([OLD_ID]);
    await holder.release();
    await hold(before);
    expect((await listMasterKeys(db)).map((key) => [key.id, key.isRetired])).toEqual([
      [NEW_ID, false],
      [OLD_ID, false],
    ]);
  });

  it('are known of what an earlier build sealed', async () => {
    await seedAll(before);
    await owner.query('drop table master_keys, key_holders');
    const asOwner = openDatabase({ url: testDatabase.url, role: null, applicationName: 'reseal-test-owner' });
    try {
      await up(asOwner.kysely as unknown as Kysely<unknown>);
    } finally {
      await asOwner.close();
    }
    const { rows } = await owner.query('select id from master_keys');
    expect(rows).toEqual([{ id: OLD_ID }]);
  });
});
