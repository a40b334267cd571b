/** The sleeps of an instance as the API shows them. */
import { sumSavings, type Savings, type Sleep } from '../../domain/hibernation.ts';
import { formatDuration } from '../../domain/duration.ts';
import type { ProvisionRequest } from '../../domain/provision-request.ts';
import { parseStoreUrl, storageCostMicroUsd } from '../../domain/snapshots/store.ts';
import { EVER, type Period } from '../../domain/usage.ts';
import type { HibernationRow } from '../../db/hibernations.ts';
import type { WorkspaceRow } from '../../db/workspaces.ts';
import type { Hibernation, HibernationSavings } from '../contract/hibernation.ts';
import type { Instance } from '../contract/instances.ts';
import { iso, isoOrNull, micro, microOrNull } from '../reply-values.ts';

/** What is known of an instance's sleep beside its own row. */
export interface Sleeping {
  /** Oldest first. */
  hibernations: readonly HibernationRow[];
  workspace: Pick<WorkspaceRow, 'store_url' | 'stored_bytes'> | undefined;
}

export const NEVER_SLEPT: Sleeping = { hibernations: [], workspace: undefined };

/** As stores turn a month into hours. */
const HOURS_PER_MONTH = 730n;

export function hibernationReply({ hibernations, workspace }: Sleeping): Hibernation | null {
  const row = hibernations.at(-1);
  if (!row) return null;
  const bytes = workspace?.stored_bytes ?? null;
  return {
    id: row.id,
    status: row.status,
    cause: row.cause,
    snapshotId: row.snapshot_id,
    beganAt: iso(row.began_at),
    sleptAt: isoOrNull(row.slept_at),
    nothingLeftAt: isoOrNull(row.proven_empty_at),
    lifetimeLeftMs: row.lifetime_left_ms === null ? null : Number(row.lifetime_left_ms),
    storageBytes: bytes === null ? null : Number(bytes),
    storageMicroUsdPerMonth: microOrNull(storagePerMonth(workspace)),
    wakeFailures: row.wake_failures,
    wakeFailureCode: row.wake_failure_code,
    wakeFailureDetail: row.wake_failure_detail,
    failureCode: row.failure_code,
    failureDetail: row.failure_detail,
  };
}

/** null: it never slept. */
export function savingsOf({ hibernations, workspace }: Sleeping, now: number): HibernationSavings | null {
  const sleeps = hibernations.flatMap((row) => sleepOf(row, workspace));
  return sleeps.length === 0 ? null : savingsReply(sumSavings(sleeps, EVER, now));
}

/** Of many instances, by what their workspaces cost. */
export function sumSleeps(
  rows: readonly HibernationRow[],
  workspaces: ReadonlyMap<string, WorkspaceRow>,
  period: Period,
  now: number,
): HibernationSavings {
  const sleeps = rows.flatMap((row) => sleepOf(row, workspaces.get(row.instance_id)));
  return savingsReply(sumSavings(sleeps, period, now));
}

export function policyReply(request: ProvisionRequest): Pick<Instance, 'hibernateWhenIdle' | 'hibernateSchedule'> {
  const { hibernateWhenIdle: idle, hibernateSchedule: schedule } = request;
  return {
    hibernateWhenIdle: idle ? { belowPercent: idle.belowPercent, for: formatDuration(idle.forMs) } : null,
    hibernateSchedule: schedule
      ? { ...schedule, windows: schedule.windows.map((window) => ({ ...window, days: [...window.days] })) }
      : null,
  };
}

/** It ends when a machine is looked for again; a try that failed costs what it cost. */
function sleepOf(row: HibernationRow, workspace: Sleeping['workspace']): Sleep[] {
  if (row.slept_at === null) return [];
  return [
    {
      sleptAt: row.slept_at.getTime(),
      endedAt: (row.wake_began_at ?? row.ended_at)?.getTime() ?? null,
      priceMicroUsdPerHour: row.price_micro_usd_per_hour,
      storageMicroUsdPerHour: (storagePerMonth(workspace) ?? 0n) / HOURS_PER_MONTH,
    },
  ];
}

function storagePerMonth(workspace: Sleeping['workspace']): bigint | null {
  if (!workspace || workspace.store_url === null || workspace.stored_bytes === null) return null;
  const store = parseStoreUrl(workspace.store_url);
  return store === undefined ? null : storageCostMicroUsd(store.kind, workspace.stored_bytes);
}

function savingsReply(savings: Savings): HibernationSavings {
  return {
    asleepMs: Math.round(savings.asleepMs),
    avoidedMicroUsd: micro(savings.avoidedMicroUsd),
    storageMicroUsd: micro(savings.storageMicroUsd),
    savedMicroUsd: micro(savings.savedMicroUsd),
  };
}
