/** The session order: from the body of POST /sessions to the provision that opens it, which is the one of POST /instances. */
import { createHash } from 'node:crypto';
import { parseDuration } from '../domain/duration.ts';
import { MusterError } from '../domain/error-table.ts';
import { resolveLifetime } from '../domain/lifetime.ts';
import { formatUsd } from '../domain/money.ts';
import { priceWithDisk } from '../domain/offer.ts';
import type { Executor } from '../db/database.ts';
import { findOffer, type InventoryRow } from '../db/inventory.ts';
import { newId } from '../db/new-id.ts';
import { listReservedKeys, offerFromRow } from '../db/offers.ts';
import { findProvider } from '../db/providers.ts';
import { makeSshKeyPair } from '../secrets/deployment-secrets.ts';
import { identityAt } from '../secrets/sealed-place.ts';
import type { ApiContext } from './api-deps.ts';
import type { Caller } from './caller.ts';
import { createInstancesBody, type CreateInstances } from './contract/instances.ts';
import type { CreateSession } from './contract/sessions.ts';
import { prepareOrder, type OrderParts } from './provision-order.ts';

const HOUR_MS = 3_600_000;

export interface SessionOrder extends OrderParts {
  sessionId: string;
  /** From its beginning to its end; null: it has none. */
  endsAfterMs: number | null;
  /** How far the end can be moved; null: without bound. */
  maxLifetimeMs: number | null;
}

/** Throws MusterError naming the field; `conflict` for an offer that is gone. */
export async function prepareSession(body: CreateSession, caller: Caller, deps: ApiContext): Promise<SessionOrder> {
  const offer = body.offerId === undefined ? null : await requireOffer(deps.database.kysely, body.offerId);
  const order = await prepareOrder(provisionOf(body, offer), caller, deps);
  const { endsAfterMs, maxLifetimeMs, overrideReason } = boundsOf(body, caller, deps);
  const request = { ...order.request, maxLifetimeMs: endsAfterMs };
  if (offer) {
    const { provider, providerOfferId } = offerFromRow(offer);
    request.onlyOffer = { provider, providerOfferId };
  }
  return {
    ...order,
    request,
    requestHash: createHash('sha256')
      .update(`${order.requestHash}/${body.offerId ?? ''}`)
      .digest('hex'),
    overrideReason,
    sessionId: newId('session'),
    endsAfterMs,
    maxLifetimeMs,
  };
}

/** The pair that lets its opener in where no keys were brought. */
export async function makeSessionKey(
  sessionId: string,
  deps: ApiContext,
): Promise<{ publicKey: string; privateKeySealed: string }> {
  const pair = await makeSshKeyPair(sessionId);
  return {
    publicKey: (pair.publicPart as string).trim(),
    privateKeySealed: deps.envelope.seal(pair.secret, identityAt('sessions.ssh_private_key_sealed', sessionId)),
  };
}

/** The offer as it is listed now. One that was there and is gone, or is somebody's, is a conflict: the menu has moved on. */
export async function requireOffer(executor: Executor, offerId: string): Promise<InventoryRow> {
  const row = await findOffer(executor, offerId);
  const gone = (why: string) =>
    new MusterError('conflict', `the offer ${offerId} ${why}: choose another`, {
      errors: [{ path: 'offerId', message: why }],
    });
  if (!row || row.hidden_at !== null) throw gone('is gone');
  const provider = await findProvider(executor, row.provider);
  if (!provider?.enabled || provider.mode === 'off') throw gone(`is of ${row.provider}, which is switched off`);
  if (row.denylisted_until !== null) throw gone('is on a machine that is on the denylist');
  const reserved = await listReservedKeys(executor);
  if (reserved.has(`${row.provider}/${row.provider_offer_id}`)) throw gone('is being bought by somebody else');
  return row;
}

function provisionOf(body: CreateSession, row: InventoryRow | null): CreateInstances {
  const { name, consumer, sshPublicKeys, dryRun, planHash, priceTolerancePercent } = body;
  const common = { name, consumer, sshPublicKeys, dryRun, planHash, priceTolerancePercent };
  if (row === null) return createInstancesBody.parse(defined({ ...body.requirements, ...common }));
  const { diskGib, image, env, onStart, bootTimeout, maxPriceUsdPerHour } = body;
  const disk = diskGib ?? createInstancesBody.shape.diskGib.parse(undefined);
  const offer = offerFromRow(row);
  return createInstancesBody.parse(
    defined({
      ...common,
      gpu: offer.gpu,
      gpuCount: offer.gpuCount,
      providers: [offer.provider],
      strategy: 'coldstart',
      interruptible: offer.interruptible,
      diskGib: disk,
      maxPriceUsdPerHour: maxPriceUsdPerHour ?? formatUsd(priceWithDisk(offer, disk)),
      image,
      env,
      onStart,
      bootTimeout,
    }),
  );
}

function defined(values: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

/** `hours` is when it ends, `maxLifetime` how far that can be moved: beyond the deployment's maximum only with a reason. */
function boundsOf(
  body: CreateSession,
  caller: Caller,
  deps: ApiContext,
): { endsAfterMs: number | null; maxLifetimeMs: number | null; overrideReason: string | null } {
  const wantedMs = body.hours === undefined ? undefined : Math.round(body.hours * HOUR_MS);
  const boundMs = typeof body.maxLifetime === 'string' ? parseDuration(body.maxLifetime) : body.maxLifetime;
  if (wantedMs !== undefined && typeof boundMs === 'number' && wantedMs > boundMs) {
    throw new MusterError('invalid_request', 'hours is longer than maxLifetime', {
      errors: [{ path: 'hours', message: 'is longer than maxLifetime' }],
    });
  }
  const needed = boundMs === undefined && wantedMs !== undefined ? Math.max(wantedMs, deps.maxLifetimeMs) : boundMs;
  const { lifetimeMs, overrideReason } = resolveLifetime(needed, {
    maxLifetimeMs: deps.maxLifetimeMs,
    role: caller.role,
    overrideReason: body.overrideReason,
    path: boundMs === undefined ? 'hours' : 'maxLifetime',
  });
  return { endsAfterMs: wantedMs ?? lifetimeMs, maxLifetimeMs: lifetimeMs, overrideReason };
}
