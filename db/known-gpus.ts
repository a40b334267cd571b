/** Known GPUs: every model that was ever offered. A name among them may be sold out; any other is a mistake. */
import { sql, type RawBuilder } from 'kysely';
import type { Executor } from './database.ts';

/** Remembers the models of the present offers. */
export async function rememberGpus(executor: Executor): Promise<void> {
  await sql`
    insert into known_gpus (gpu_key, gpu)
    select gpu_key, min(gpu) from offers group by gpu_key
    on conflict (gpu_key) do nothing`.execute(executor);
}

export function listKnownGpus(executor: Executor): Promise<{ gpu_key: string; gpu: string }[]> {
  return executor.selectFrom('known_gpus').select(['gpu_key', 'gpu']).orderBy('gpu').execute();
}

/** canonicalGpuKey (domain/offer.ts) of a column, for rows that keep only the name. */
export function gpuKeyOf(column: string): RawBuilder<string> {
  return sql<string>`lower(regexp_replace(btrim(regexp_replace(${sql.ref(column)}, '[_[:space:]-]+', ' ', 'g')), '^nvidia (geforce )?', '', 'i'))`;
}
