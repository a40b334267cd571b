/** The promises that hold after every cell of the crash matrix, by what is at the vendor and what is in Muster's database. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { EMBEDDED_DATABASE, EMBEDDED_OWNER } from '../../db/embedded-cluster.ts';
import type { CrashScene } from './crash-fleet.ts';

export async function judgeCell(scene: CrashScene): Promise<string[]> {
  const problems: string[] = [];
  for (const [label, same] of Map.groupBy(scene.machines(), ({ label }) => label)) {
    if (same.length > 1) problems.push(`label ${label} was bought ${same.length} times`);
  }
  const rows = await ask(scene, RULES);
  for (const { what } of rows) problems.push(what);
  return problems;
}

/** Each answers with what breaks it; the last rules are judged when everything is destroyed. */
const RULES = `
  with records as (
    select u.*, lag(u.ended_at) over (partition by u.attempt_id order by u.started_at) as before,
      lead(u.started_at) over (partition by u.attempt_id order by u.started_at) as after
    from usage_records u)
  select 'usage of ' || a.id || case
      when r.ended_at < r.started_at then ' ends before it starts'
      when r.before > r.started_at then ' is charged twice'
      when r.before < r.started_at then ' has a gap'
      when r.before is null and r.started_at <> a.purchased_at::timestamptz(3) then ' does not start at the purchase'
      when r.after is null and r.is_open then ' is open for ever'
      when r.after is null and r.ended_at <> a.gone_at::timestamptz(3) then ' does not end with the machine'
    end as what
  from records r join attempts a on a.id = r.attempt_id where a.is_metered
  union all
  select 'usage of ' || a.id || ' is missing' from attempts a where a.purchased_at is not null and a.is_metered
    and not exists (select from usage_records u where u.attempt_id = a.id)
  union all
  select a.id || ' is ' || a.status || ' and its instance destroyed' from attempts a join instances i on i.id = a.instance_id
    where i.status = 'destroyed' and a.status <> 'gone'
  union all
  select 'operation ' || id || ' (' || kind || ') is ' || status || ' for ever: ' || coalesce(note, '-') from operations
    where status in ('queued', 'running') and target_kind in ('instance', 'attempt', 'snapshot', 'standby')
      and kind <> 'delete_snapshot'
  union all
  select 'operation ' || id || ' (' || kind || ') failed and does not say why' from operations
    where status = 'failed' and error_code is null
  union all
  select 'operation ' || id || ' (' || kind || ') failed by an error of ours: ' || error_detail from operations
    where error_code = 'internal'
  union all
  select 'a repository token of ' || operation_id || ' was never revoked' from repository_tokens t
    join operations o on o.id = t.operation_id where o.finished_at is not null and t.revoked_at is null
  union all
  select 'epoch ' || epoch || ' of the workspace of ' || instance_id || ' had two writers' from (
    select instance_id, epoch, node_id from repository_tokens where access = 'write'
    union select instance_id, epoch, node_id from snapshots where status <> 'failed') writers
    group by instance_id, epoch having count(distinct node_id) > 1
  union all
  select 'two failovers ran at once on ' || a.instance_id from failovers a join failovers b on a.instance_id = b.instance_id
    where a.id < b.id and a.created_at < coalesce(b.finished_at, 'infinity') and b.created_at < coalesce(a.finished_at, 'infinity')`;

async function ask({ dataDir, until }: CrashScene, text: string): Promise<{ what: string }[]> {
  let found: { what: string }[] = [];
  await until(async () => {
    const home = join(dataDir, 'postgres');
    const password = readFileSync(join(home, 'password'), 'utf8').trim();
    const port = Number(readFileSync(join(home, 'cluster', 'postmaster.pid'), 'utf8').split('\n')[3]);
    const connection = { host: '127.0.0.1', port, user: EMBEDDED_OWNER, password, database: EMBEDDED_DATABASE };
    const client = new pg.Client(connection);
    client.on('error', () => undefined);
    await client.connect();
    try {
      found = (await client.query<{ what: string | null }>(text)).rows.filter(
        (row): row is { what: string } => row.what !== null,
      );
      // What ends by itself is given its time.
      return !found.some(({ what }) => what.includes('for ever'));
    } finally {
      await client.end().catch(() => undefined);
    }
  }, 'everything comes to its end').catch(
    (error: Error) => void found.push({ what: error.message.split('\n')[0] as string }),
  );
  return found;
}
