/** The diagnostics of a session: everything that was tried for it and found of it, from the rows alone. */
import { listAttemptsOfInstances, type AttemptRow } from '../db/attempts.ts';
import type { Executor } from '../db/database.ts';
import type { InstanceRow } from '../db/instances.ts';
import { listFindingsOfInstance, readTimeline } from '../db/session-diagnostics.ts';
import type { SessionRow } from '../db/sessions.ts';
import { readUsageOfAttempts } from '../db/usage.ts';
import type { Attempt } from './contract/instances.ts';
import type { SessionDiagnostics } from './contract/sessions.ts';
import { viewInstance } from './instance-view.ts';
import { findingReply } from './replies/finding-reply.ts';
import { iso, isoOrNull } from './reply-values.ts';

const MAX_FINDINGS = 100;
const MAX_EVENTS = 200;

export async function diagnose(
  executor: Executor,
  session: SessionRow,
  instance: InstanceRow,
): Promise<SessionDiagnostics> {
  const [view, attempts, findings, timeline] = await Promise.all([
    viewInstance(executor, instance),
    listAttemptsOfInstances(executor, [instance.id]),
    listFindingsOfInstance(executor, instance.id, MAX_FINDINGS),
    readTimeline(executor, instance, MAX_EVENTS),
  ]);
  const byId = new Map(attempts.map((attempt) => [attempt.id, attempt]));
  const usage = await readUsageOfAttempts(executor, [...byId.keys()]);
  const now = Date.now();
  return {
    sessionId: session.id,
    status: session.status,
    summary: summarize(session, instance, attempts),
    phase: instance.phase,
    attempts: view.attempts.map((attempt) => attemptDiagnostics(attempt, byId.get(attempt.id) as AttemptRow)),
    findings: findings.map((row) => findingReply(row, usage.get(row.attempt_id ?? '') ?? [], now)),
    timeline: timeline.map((event) => ({
      at: iso(event.at),
      operationId: event.operationId,
      type: event.type,
      data: event.data,
    })),
  };
}

function attemptDiagnostics(attempt: Attempt, row: AttemptRow): SessionDiagnostics['attempts'][number] {
  const check = row.last_check;
  return {
    ...attempt,
    vendorStatus: row.observed_detail,
    vendorStatusAt: isoOrNull(row.observed_at),
    check:
      check === null
        ? null
        : {
            at: check.at,
            verdict: check.verdict,
            reason: check.reason,
            ssh:
              check.ssh === null
                ? null
                : { reached: check.ssh.reached, authenticated: check.ssh.authenticated, detail: check.ssh.detail },
            gpus: check.ssh?.gpus ?? null,
          },
  };
}

function summarize(session: SessionRow, instance: InstanceRow, attempts: AttemptRow[]): string {
  const tried = attempts.length;
  const refused = attempts.reduce((sum, attempt) => sum + attempt.refusals.length, 0);
  const parts = [
    `${session.status}: instance ${instance.id} is ${instance.status}`,
    instance.failure_code === null
      ? instance.note
      : `it failed with ${instance.failure_code}: ${instance.failure_detail}`,
    `${tried} ${tried === 1 ? 'machine was' : 'machines were'} tried, ${refused} ${refused === 1 ? 'offer was' : 'offers were'} refused`,
  ];
  return parts.filter((part) => part !== null).join('; ');
}
