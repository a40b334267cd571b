/** The deployment: who we are at the providers, and the hard caps. One row. */
import { MusterError } from '../domain/error-table.ts';
import type { Db } from './database.ts';

export interface DeploymentSettings {
  deploymentId: string;
  mode: 'sandbox' | 'live';
  maxInstances: number;
  maxBurnMicroUsdPerHour: bigint;
}

/**
 * Records the settings at start. Throws MusterError `conflict` when the database belongs to another deployment id or mode: labels of
 * one must never be judged by another, and a sandbox's rows never be taken for real machines.
 */
export async function registerDeployment(db: Db, settings: DeploymentSettings): Promise<void> {
  const row = await db
    .insertInto('deployment')
    .values({
      deployment_id: settings.deploymentId,
      mode: settings.mode,
      max_instances: settings.maxInstances,
      max_burn_micro_usd_per_hour: settings.maxBurnMicroUsdPerHour,
    })
    .onConflict((conflict) =>
      conflict.column('singleton').doUpdateSet((eb) => ({
        max_instances: eb.ref('excluded.max_instances'),
        max_burn_micro_usd_per_hour: eb.ref('excluded.max_burn_micro_usd_per_hour'),
      })),
    )
    .returning(['deployment_id', 'mode'])
    .executeTakeFirstOrThrow();
  if (row.deployment_id !== settings.deploymentId || row.mode !== settings.mode) {
    throw new MusterError(
      'conflict',
      `this database belongs to deployment "${row.deployment_id}" in ${row.mode} mode; the configuration says "${settings.deploymentId}" in ${settings.mode} mode`,
    );
  }
}
