/**
 * The reconcile cron: recorded against observed, one believable listing per provider. It records findings and enqueues what is to be
 * done; an orphan is destroyed by an ordinary operation after two believable listings and its grace.
 */
import type { Logger } from 'pino';
import { readLabel, type LabelMac } from '../../domain/label.ts';
import type { ProviderName } from '../../domain/provider.ts';
import {
  diffFleet,
  shouldDestroyOrphan,
  type Finding,
  type FleetDiff,
  type RecordedAttempt,
} from '../../domain/reconcile.ts';
import { recordMissing, recordObservation, type AttemptRow } from '../../db/attempts.ts';
import { appendAudit, SYSTEM } from '../../db/audit.ts';
import { inTransaction, type Db } from '../../db/database.ts';
import { listFindings, resolveUnseen, setFindingStatus, sightFinding, type FindingRow } from '../../db/findings.ts';
import { acceptOperation } from '../../db/operations.ts';
import type { Queue } from '../../db/queue.ts';
import type { ProviderClient } from '../../providers-dynamic/provider-client.ts';
import { listBelievably } from '../readiness/list-instances.ts';
import { recordLost } from '../readiness/outcomes.ts';
import type { Cron, TickCounts } from './scheduler.ts';

/** Open findings compared with; more at once means that a person must look anyway. */
const MAX_FINDINGS = 5_000;

export interface ReconcileOptions {
  db: Db;
  queue: Queue;
  client: (provider: ProviderName) => ProviderClient;
  providers: ProviderName[];
  listLagMs: (provider: ProviderName) => number;
  now: () => Date;
  everyMs: number;
  deploymentId: string;
  labelMac: LabelMac;
  orphans: { policy: 'destroy' | 'alert'; graceMs: number };
  log: Logger;
}

export function createReconcileCron(options: ReconcileOptions): Cron {
  return {
    name: 'reconcile-fleet',
    everyMs: options.everyMs,
    async run(signal) {
      const counts: TickCounts = {};
      for (const provider of options.providers) {
        for (const [name, count] of Object.entries(await reconcileProvider(options, provider, signal))) {
          counts[`${provider}.${name}`] = count;
        }
      }
      return counts;
    },
  };
}

async function reconcileProvider(
  options: ReconcileOptions,
  provider: ProviderName,
  signal: AbortSignal,
): Promise<TickCounts> {
  const { db, now } = options;
  const startedAt = now();
  const identify = (label: string | null) => readLabel(label, options.deploymentId, options.labelMac);
  const listing = await listBelievably(
    { ...options, provider, client: options.client(provider), lagMs: options.listLagMs(provider) },
    signal,
    (instance) => identify(instance.label).owner === 'foreign',
  );
  if (!listing) return { quarantined: 1 };
  const open = (await listFindings(db, { orgId: null, status: ['open', 'resolving'], limit: MAX_FINDINGS })).filter(
    (finding) => finding.provider === provider,
  );
  const diff = diffFleet({
    provider,
    recorded: listing.recorded.map(recordedAttempt),
    observed: listing.observed,
    readLabel: identify,
    graceMs: options.orphans.graceMs,
    previousFindings: open.map((finding) => ({
      class: finding.class as Finding['class'],
      providerInstanceId: finding.provider_instance_id,
      attemptId: finding.attempt_id,
      sightings: finding.sightings,
      firstSeenAt: finding.first_seen_at.getTime(),
    })),
    now: startedAt.getTime(),
  });
  await applyUpdates(options, diff, listing.recorded);
  const { destroys, seenIds } = await applyFindings(options, diff, listing.recorded);
  const resolved = await resolveUnseen(db, provider, seenIds);
  return {
    observed: listing.observed.length,
    findings: diff.findings.length,
    destroys,
    resolved,
    foreign: diff.foreignCount,
  };
}

async function applyUpdates(options: ReconcileOptions, diff: FleetDiff, recorded: AttemptRow[]): Promise<void> {
  const byId = new Map(recorded.map((attempt) => [attempt.id, attempt]));
  for (const update of diff.updates) {
    if (update.kind === 'observed') await recordObservation(options.db, update.attemptId, update.observed);
    else if (update.kind === 'missing') await recordMissing(options.db, update.attemptId);
    else {
      const attempt = byId.get(update.attemptId);
      if (attempt) await recordLost(options.db, options.queue, attempt, update.detail, options.now());
    }
  }
}

async function applyFindings(
  options: ReconcileOptions,
  diff: FleetDiff,
  recorded: AttemptRow[],
): Promise<{ destroys: number; seenIds: string[] }> {
  const orgs = new Map(recorded.map((attempt) => [attempt.id, attempt.org_id]));
  const seenIds: string[] = [];
  let destroys = 0;
  for (const finding of diff.findings) {
    const { sightings: _counted, firstSeenAt: _since, ...seen } = finding;
    const row = await sightFinding(options.db, { ...seen, orgId: orgs.get(finding.attemptId ?? '') ?? null });
    if (row) seenIds.push(row.id);
    if (!row || row.status !== 'open') continue;
    const known = {
      class: finding.class,
      providerInstanceId: row.provider_instance_id,
      sightings: row.sightings,
      firstSeenAt: row.first_seen_at.getTime(),
    };
    if (!shouldDestroyOrphan(known, options.orphans.policy, options.now().getTime(), options.orphans.graceMs)) continue;
    await destroyFound(options, row);
    destroys++;
  }
  return { destroys, seenIds };
}

async function destroyFound(options: ReconcileOptions, finding: FindingRow): Promise<void> {
  options.log.warn(
    { finding: finding.id, provider: finding.provider, machine: finding.provider_instance_id, class: finding.class },
    `${finding.class}: ${finding.detail}; destroying it`,
  );
  await inTransaction(options.db, async (tx) => {
    const operation = await acceptOperation(tx, options.queue, {
      orgId: finding.org_id,
      kind: 'destroy_machine',
      targetKind: 'finding',
      targetId: finding.id,
      stackId: null,
      input: { reason: finding.detail },
      deterministicKey: `destroy:${finding.id}`,
      createdBy: 'reconcile-fleet',
    });
    await setFindingStatus(tx, finding.id, 'resolving', operation.id);
    await appendAudit(tx, {
      orgId: finding.org_id,
      actor: SYSTEM,
      action: 'finding.destroy',
      targetKind: 'finding',
      targetId: finding.id,
      detail: {
        class: finding.class,
        provider: finding.provider,
        machine: finding.provider_instance_id,
        operation: operation.id,
      },
    });
  });
}

function recordedAttempt(row: AttemptRow): RecordedAttempt {
  return {
    attemptId: row.id,
    instanceId: row.instance_id,
    label: row.label,
    status: row.status,
    providerInstanceId: row.provider_instance_id,
    machineId: row.machine_id,
    gpu: row.gpu,
    gpuCount: row.gpu_count,
    priceMicroUsdPerHour: row.price_micro_usd_per_hour,
    purchasedAt: row.purchased_at?.getTime() ?? null,
    bootDeadline: row.boot_deadline?.getTime() ?? null,
    statusSince: (row.destroy_requested_at ?? row.updated_at).getTime(),
    missingSince: row.missing_since?.getTime() ?? null,
    missingCount: row.missing_count,
  };
}
