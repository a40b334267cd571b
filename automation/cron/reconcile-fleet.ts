/**
 * The reconcile cron: recorded against observed, one believable listing per provider, all providers at once and each for itself. It
 * records findings and enqueues what is to be done; an orphan is destroyed by an ordinary operation after two believable listings and
 * its grace.
 */
import { readLabel, type LabelMac } from '../../domain/label.ts';
import { foundMachine } from '../../domain/found-machine.ts';
import { PROVIDER_FACTS, type ProviderName } from '../../domain/provider.ts';
import {
  diffFleet,
  findUnrecorded,
  shouldDestroyOrphan,
  type Finding,
  type FleetDiff,
  type RecordedAttempt,
} from '../../domain/reconcile.ts';
import { acceptFoundDestroy } from '../../db/accept-found-destroy.ts';
import { listAttemptsToReconcile, recordMissing, recordObservation, type AttemptRow } from '../../db/attempts.ts';
import { SYSTEM } from '../../db/audit.ts';
import { inTransaction } from '../../db/database.ts';
import { listFindings, resolveUnseen, sightFinding, type FindingRow } from '../../db/findings.ts';
import { listBelievably } from '../readiness/list-instances.ts';
import { recordLost } from '../readiness/outcomes.ts';
import { forEachProvider, type FleetCronOptions } from './each-provider.ts';
import type { Cron, TickCounts } from './scheduler.ts';

/** Open findings compared with; more at once means that a person must look anyway. */
const MAX_FINDINGS = 5_000;

export interface ReconcileOptions extends FleetCronOptions {
  deploymentId: string;
  labelMac: LabelMac;
  orphans: { policy: 'destroy' | 'alert'; graceMs: number };
}

export function createReconcileCron(options: ReconcileOptions): Cron {
  return {
    name: 'reconcile-fleet',
    everyMs: options.everyMs,
    run: (signal) =>
      forEachProvider(options.providers, (provider, bound) => reconcileProvider(options, provider, bound), {
        signal,
        log: options.log,
      }),
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
  const { observed } = listing;
  const before = listing.recorded;
  const unrecorded = findUnrecorded({ recorded: before, observed, readLabel: identify });
  // Read after the listing, and gone ones too: they tell whose an orphan was.
  const after = await listAttemptsToReconcile(db, provider, [...before.map((row) => row.label), ...unrecorded]);
  const isContainer = PROVIDER_FACTS[provider].machineKind === 'container';
  const known = new Map(
    after.map((row) => [row.id, { image: isContainer ? row.image : null, heardAt: row.heard_at?.getTime() ?? null }]),
  );
  const since = after.filter((row) => row.status !== 'gone' && unrecorded.includes(row.label));
  const open = await listFindings(db, {
    orgId: null,
    status: ['open', 'resolving'],
    provider: [provider],
    limit: MAX_FINDINGS,
  });
  const diff = diffFleet({
    provider,
    recorded: [...before, ...since].map((row) => recordedAttempt(row, known.get(row.id))),
    observed,
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
  await applyUpdates(options, diff, before);
  const { destroys, seenIds } = await applyFindings(
    options,
    diff,
    new Map(after.map((row) => [row.label, row.org_id])),
  );
  const resolved = await resolveUnseen(db, provider, seenIds);
  return {
    observed: observed.length,
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
  orgs: ReadonlyMap<string, string>,
): Promise<{ destroys: number; seenIds: string[] }> {
  const seenIds: string[] = [];
  let destroys = 0;
  for (const finding of diff.findings) {
    const { sightings: _counted, firstSeenAt: _since, machine, ...seen } = finding;
    const row = await sightFinding(options.db, {
      ...seen,
      machine: machine && foundMachine(machine),
      orgId: orgs.get(finding.label ?? '') ?? null,
    });
    if (row) seenIds.push(row.id);
    if (!row || row.status !== 'open') continue;
    const known = {
      class: finding.class,
      providerInstanceId: row.provider_instance_id,
      sightings: row.sightings,
      firstSeenAt: row.first_seen_at.getTime(),
    };
    if (!shouldDestroyOrphan(known, options.orphans.policy, options.now().getTime(), options.orphans.graceMs)) continue;
    if (await destroyFound(options, row)) destroys++;
  }
  return { destroys, seenIds };
}

/** Whether it was accepted: not where a person decided otherwise since it was sighted. */
async function destroyFound(options: ReconcileOptions, finding: FindingRow): Promise<boolean> {
  const operation = await inTransaction(options.db, (tx) =>
    acceptFoundDestroy(tx, options.queue, {
      findingId: finding.id,
      from: ['open'],
      actor: SYSTEM,
      reason: finding.detail,
      createdBy: 'reconcile-fleet',
    }),
  );
  if (operation !== null) {
    options.log.warn(
      { finding: finding.id, provider: finding.provider, machine: finding.provider_instance_id, class: finding.class },
      `${finding.class}: ${finding.detail}; destroying it`,
    );
  }
  return operation !== null;
}

function recordedAttempt(
  row: AttemptRow,
  { image, heardAt }: Pick<RecordedAttempt, 'image' | 'heardAt'> = { image: null, heardAt: null },
): RecordedAttempt {
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
    image,
    purchasedAt: row.purchased_at?.getTime() ?? null,
    bootDeadline: row.boot_deadline?.getTime() ?? null,
    statusSince: (row.destroy_requested_at ?? row.updated_at).getTime(),
    missingSince: row.missing_since?.getTime() ?? null,
    missingCount: row.missing_count,
    heardAt,
  };
}
