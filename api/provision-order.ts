/** The provision order: from the body of POST /instances to what is accepted or previewed. Throws MusterError naming the field. */
import { createHash, randomBytes } from 'node:crypto';
import { parseDuration } from '../domain/duration.ts';
import { toBase32 } from '../domain/ids.ts';
import { readWorkspaceWish } from './workspace-wish.ts';
import { MusterError } from '../domain/error-table.ts';
import { resolveLifetime } from '../domain/lifetime.ts';
import { parseUsd } from '../domain/money.ts';
import { canonicalGpuKey } from '../domain/offer.ts';
import type { ProvisionRequest } from '../domain/provision-request.ts';
import { newId } from '../db/new-id.ts';
import { sealEnv } from '../secrets/instance-env.ts';
import type { ApiContext } from './api-deps.ts';
import type { Caller } from './caller.ts';
import type { CreateInstances } from './contract/instances.ts';

export interface OrderParts {
  request: ProvisionRequest;
  stackId: string;
  names: string[];
  /** Kept where the maximum lifetime is exceeded. */
  overrideReason: string | null;
  /** Of everything that was asked for; not of the market, which moves. */
  requestHash: string;
}

export async function prepareOrder(body: CreateInstances, caller: Caller, deps: ApiContext): Promise<OrderParts> {
  const gpu = await deps.gpus.resolve(body.gpu);
  const stackId = newId('stack');
  const { maxLifetime } = body;
  const { lifetimeMs, overrideReason } = resolveLifetime(
    typeof maxLifetime === 'string' ? parseDuration(maxLifetime) : maxLifetime,
    { maxLifetimeMs: deps.maxLifetimeMs, role: caller.role, overrideReason: body.overrideReason },
  );
  const request = toRequest(body, { gpu, stackId, lifetimeMs }, deps);
  return {
    request,
    stackId,
    names: nameInstances(body, gpu),
    overrideReason,
    requestHash: hashRequest({ ...body, gpu }),
  };
}

function toRequest(
  body: CreateInstances,
  settled: { gpu: string; stackId: string; lifetimeMs: number | null },
  deps: ApiContext,
): ProvisionRequest {
  return {
    gpu: settled.gpu,
    gpuCount: body.gpuCount,
    minGpuMemoryGib: body.minGpuMemoryGib ?? null,
    diskGib: body.diskGib,
    image: body.image,
    maxPriceMicroUsdPerHour: Number(parseUsd(body.maxPriceUsdPerHour)),
    providers: body.providers,
    regions: body.regions,
    minReliability: body.minReliability ?? null,
    interruptible: body.interruptible,
    bidMicroUsdPerHour: readBid(body),
    onInterruption: body.onInterruption,
    strategy: body.strategy,
    raceWidth: body.raceWidth,
    maxRaceCostMicroUsd: Number(parseUsd(body.maxRaceCostUsd)),
    sshPublicKeys: body.sshPublicKeys.map((key) => key.trim()),
    envNames: Object.keys(body.env).sort(),
    envSealed: sealEnv(deps.envelope, settled.stackId, body.env),
    onStart: body.onStart ?? null,
    maxLifetimeMs: settled.lifetimeMs,
    bootTimeoutMs: body.bootTimeout === undefined ? deps.bootTimeoutMs : (parseDuration(body.bootTimeout) as number),
    ...hibernationOf(body),
    ...(body.workspace === undefined ? {} : { workspace: readWorkspaceWish(body.workspace) }),
  };
}

/** Only what is wished for: requests without are kept as they were. */
export function hibernationOf({
  hibernateWhenIdle: idle,
  hibernateSchedule: schedule,
}: Pick<CreateInstances, 'hibernateWhenIdle' | 'hibernateSchedule'>): Pick<
  ProvisionRequest,
  'hibernateWhenIdle' | 'hibernateSchedule'
> {
  return {
    ...(idle === undefined
      ? {}
      : {
          hibernateWhenIdle:
            idle === null ? null : { belowPercent: idle.belowPercent, forMs: parseDuration(idle.for) as number },
        }),
    ...(schedule === undefined ? {} : { hibernateSchedule: schedule }),
  };
}

/** Throws MusterError where a bid makes no sense. */
function readBid(body: CreateInstances): number | null {
  if (body.bidUsdPerHour === undefined) return null;
  const bid = Number(parseUsd(body.bidUsdPerHour));
  const message = !body.interruptible
    ? 'is only for interruptible instances'
    : bid > Number(parseUsd(body.maxPriceUsdPerHour))
      ? `must not be above maxPriceUsdPerHour (${body.maxPriceUsdPerHour})`
      : null;
  if (message === null) return bid;
  throw new MusterError('invalid_request', `bidUsdPerHour ${message}`, {
    errors: [{ path: 'bidUsdPerHour', message }],
  });
}

/** One name as it is, several with a number each; without one, the GPU's and six random characters. */
function nameInstances(body: CreateInstances, gpu: string): string[] {
  const slug = canonicalGpuKey(gpu)
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 32);
  const base = body.name ?? `${slug}-${toBase32(randomBytes(4)).slice(0, 6)}`;
  return body.count === 1 ? [base] : Array.from({ length: body.count }, (_, index) => `${base}-${index + 1}`);
}

/** What carries a plan out is the request that the plan was made for, whatever it says about the plan itself. */
function hashRequest(body: CreateInstances): string {
  const { dryRun: _dryRun, planHash: _planHash, priceTolerancePercent: _tolerance, ...asked } = body;
  const members = Object.entries(asked).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256').update(JSON.stringify(members)).digest('hex');
}
