/**
 * Rows in memory, each change guarded exactly as its SQL is: attempts as in db/attempts.ts, findings as in db/findings.ts, adoption as in
 * db/accept-adopt.ts, the destroy of a found machine as in db/accept-found-destroy.ts. A method is one transaction: nothing happens in the middle of it.
 */
import { ATTEMPT_NEXT, type AttemptStatus } from '../../domain/attempt.ts';
import type { ProviderName } from '../../domain/provider.ts';
import type { Finding, RecordedAttempt } from '../../domain/reconcile.ts';

export interface ModelAttempt extends RecordedAttempt {
  provider: ProviderName;
  engineRuns: number;
  /** The stack's claim: one operation works on it at a time. */
  isHeld: boolean;
  isDestroyAsked: boolean;
}

export interface ModelFinding {
  class: Finding['class'];
  provider: ProviderName;
  providerInstanceId: string | null;
  attemptId: string | null;
  label: string | null;
  status: 'open' | 'resolving' | 'resolved';
  sightings: number;
  firstSeenAt: number;
}

export class ModelRows {
  readonly attempts = new Map<string, ModelAttempt>();
  readonly findings: ModelFinding[] = [];

  insert(provider: ProviderName, attemptId: string, label: string, now: number): ModelAttempt {
    const row: ModelAttempt = {
      provider,
      attemptId,
      instanceId: `ins-${attemptId}`,
      label,
      status: 'reserved',
      providerInstanceId: null,
      machineId: null,
      gpu: 'RTX 4090',
      gpuCount: 1,
      priceMicroUsdPerHour: 300_000n,
      image: null,
      purchasedAt: null,
      bootDeadline: null,
      statusSince: now,
      missingSince: null,
      missingCount: 0,
      heardAt: null,
      engineRuns: 0,
      isHeld: false,
      isDestroyAsked: false,
    };
    this.attempts.set(attemptId, row);
    return row;
  }

  /** As a snapshot: what a statement returned does not change under whoever reads it. */
  live(provider: ProviderName): ModelAttempt[] {
    return this.all(provider).filter((row) => row.status !== 'gone');
  }

  byLabel(provider: ProviderName, labels: readonly string[]): ModelAttempt[] {
    return this.all(provider).filter((row) => labels.includes(row.label));
  }

  private all(provider: ProviderName): ModelAttempt[] {
    return [...this.attempts.values()].filter((row) => row.provider === provider).map((row) => ({ ...row }));
  }

  private move(row: ModelAttempt, to: AttemptStatus, now: number): boolean {
    if (!ATTEMPT_NEXT[row.status].includes(to)) return false;
    row.status = to;
    row.statusSince = now;
    return true;
  }

  markEngineRun(row: ModelAttempt, now: number): void {
    row.engineRuns++;
    if (row.status === 'reserved') this.move(row, 'buying', now);
  }

  recordPurchase(row: ModelAttempt, providerInstanceId: string, now: number): void {
    if (row.status === 'gone') return;
    row.providerInstanceId = providerInstanceId;
    row.purchasedAt ??= now;
    if (row.status === 'reserved' || row.status === 'buying') this.move(row, 'bought', now);
  }

  markReady(row: ModelAttempt, now: number): void {
    if (row.status === 'bought') this.move(row, 'ready', now);
  }

  markDestroying(row: ModelAttempt, now: number): void {
    if (row.status === 'gone' || row.status === 'destroying') return;
    this.move(row, row.status === 'reserved' && row.engineRuns === 0 ? 'gone' : 'destroying', now);
  }

  markGone(row: ModelAttempt, now: number): void {
    row.status = 'gone';
    row.statusSince = now;
  }

  markLost(row: ModelAttempt, now: number): boolean {
    return (row.status === 'bought' || row.status === 'ready') && this.move(row, 'lost', now);
  }

  /** An ignored one is not in this model. */
  sight(seen: Finding, now: number): ModelFinding {
    const same = this.findings.find(
      (one) =>
        one.status !== 'resolved' &&
        one.class === seen.class &&
        one.provider === seen.provider &&
        one.providerInstanceId === seen.providerInstanceId &&
        one.attemptId === seen.attemptId,
    );
    if (same) {
      same.sightings++;
      return same;
    }
    const { class: kind, provider, providerInstanceId, attemptId, label } = seen;
    const finding: ModelFinding = {
      class: kind,
      provider,
      providerInstanceId,
      attemptId,
      label,
      status: 'open',
      sightings: 1,
      firstSeenAt: now,
    };
    this.findings.push(finding);
    return finding;
  }

  resolveUnseen(provider: ProviderName, seen: readonly ModelFinding[]): void {
    for (const finding of this.findings) {
      if (finding.provider === provider && finding.status === 'open' && !seen.includes(finding))
        finding.status = 'resolved';
    }
  }

  /** Whether it changed; only from one of these. */
  changeFinding(finding: ModelFinding, to: ModelFinding['status'], from: ModelFinding['status'][]): boolean {
    if (!from.includes(finding.status)) return false;
    finding.status = to;
    return true;
  }

  /** Whether it was accepted: not where the machine has a row of its own by now. */
  acceptDestroy(finding: ModelFinding): boolean {
    const isRecorded = this.live(finding.provider).some((row) => row.providerInstanceId === finding.providerInstanceId);
    return !isRecorded && this.changeFinding(finding, 'resolving', ['open']);
  }

  /** null: refused. */
  adopt(finding: ModelFinding, attemptId: string, now: number): ModelAttempt | null {
    if (finding.class !== 'orphan' || finding.status !== 'open' || finding.label === null) return null;
    const isRecorded = this.live(finding.provider).some(
      (row) => row.label === finding.label || row.providerInstanceId === finding.providerInstanceId,
    );
    const isBeingDestroyed = this.findings.some(
      (one) => one.status === 'resolving' && one.providerInstanceId === finding.providerInstanceId,
    );
    if (isRecorded || isBeingDestroyed) return null;
    const row = this.insert(finding.provider, attemptId, finding.label, now);
    row.status = 'bought';
    row.providerInstanceId = finding.providerInstanceId;
    row.purchasedAt = now;
    finding.status = 'resolved';
    return row;
  }
}
