/** A session with its instance as the API shows it. */
import { allowedSessionActions } from '../../domain/session.ts';
import type { SessionRow } from '../../db/sessions.ts';
import type { Instance } from '../contract/instances.ts';
import type { Session } from '../contract/sessions.ts';
import { iso, isoOrNull } from '../reply-values.ts';

export function sessionReply(row: SessionRow, instance: Instance): Session {
  const { ssh } = instance;
  return {
    id: row.id,
    status: row.status,
    allowedActions: allowedSessionActions(row.status),
    consumer: row.consumer,
    purpose: row.purpose,
    offerId: row.offer_id,
    openedBy: row.opened_by,
    ssh:
      row.status === 'open' && ssh !== null ? { ...ssh, command: `ssh -p ${ssh.port} ${ssh.user}@${ssh.host}` } : null,
    hasSshKey: row.ssh_private_key_sealed !== null,
    priceMicroUsdPerHour: instance.priceMicroUsdPerHour,
    accruedMicroUsd: instance.accruedMicroUsd,
    expiresAt: isoOrNull(row.expires_at),
    latestExpiresAt:
      row.max_lifetime_ms === null ? null : iso(new Date(row.created_at.getTime() + Number(row.max_lifetime_ms))),
    overrideReason: row.override_reason,
    failureCode: instance.failureCode,
    failureDetail: instance.failureDetail,
    createdAt: iso(row.created_at),
    openedAt: isoOrNull(row.opened_at),
    endedAt: isoOrNull(row.ended_at),
    instance,
  };
}
