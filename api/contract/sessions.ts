/** Sessions on the wire: a machine for a while, chosen from the menu or by requirements, handed over to be used directly. */
import { z } from 'zod';
import { SESSION_ACTIONS, SESSION_STATUSES } from '../../domain/session.ts';
import { finding } from './findings.ts';
import { attempt, createInstancesBody, instance } from './instances.ts';
import { operationRef } from './operations.ts';
import { commaList, consumer, id, microUsd, pageOf, pageQuery, positiveUsd, reason, time } from './values.ts';

const hours = z
  .number()
  .min(1 / 60)
  .max(8_760)
  .meta({ description: 'From a minute to a year', example: 2 });

const { shape } = createInstancesBody;

/** What a machine must be, as of POST /instances. */
const requirements = createInstancesBody
  .pick({
    gpu: true,
    gpuCount: true,
    minGpuMemoryGib: true,
    diskGib: true,
    image: true,
    maxPriceUsdPerHour: true,
    providers: true,
    regions: true,
    minReliability: true,
    interruptible: true,
    bidUsdPerHour: true,
    onInterruption: true,
    strategy: true,
    raceWidth: true,
    maxRaceCostUsd: true,
    env: true,
    onStart: true,
    bootTimeout: true,
  })
  .meta({ id: 'SessionRequirements', description: 'As of POST /instances' });

/** What may be said of one offer: it settles the rest. */
const OF_OFFER = ['diskGib', 'image', 'env', 'onStart', 'bootTimeout', 'maxPriceUsdPerHour'] as const;

export const createSessionBody = z
  .strictObject({
    offerId: id('offer').optional().meta({ description: 'Of the inventory: this offer and nothing else is bought' }),
    requirements: requirements.optional().meta({ description: 'Instead of an offer: whatever fits best' }),
    diskGib: shape.diskGib.removeDefault().optional().meta({ description: 'With `offerId`. Default: 40' }),
    image: shape.image.removeDefault().optional().meta({ description: 'With `offerId`' }),
    env: shape.env.removeDefault().optional().meta({ description: 'With `offerId`' }),
    onStart: shape.onStart.meta({ description: 'With `offerId`' }),
    bootTimeout: shape.bootTimeout.meta({ description: 'With `offerId`' }),
    maxPriceUsdPerHour: positiveUsd
      .optional()
      .meta({ description: 'With `offerId`. Default: the price that it is listed at now, with its disk' }),
    name: shape.name.meta({ description: 'Of the instance. Default: generated' }),
    hours: hours.optional().meta({ description: 'Until it ends. Default: as long as `maxLifetime` allows' }),
    consumer: consumer.optional().meta({ description: 'To whom the cost is attributed' }),
    purpose: z.string().trim().min(1).max(200).optional(),
    sshPublicKeys: shape.sshPublicKeys.meta({
      description: 'Who may log in. None: a key pair is made for the session, see `GET /sessions/{id}/ssh-key`',
    }),
    maxLifetime: shape.maxLifetime.meta({
      description:
        "How far its end can be moved. Default: the deployment's maximum (12 hours); longer, or null for no bound, needs an `overrideReason`",
    }),
    overrideReason: reason.optional(),
    dryRun: shape.dryRun,
    planHash: shape.planHash,
    priceTolerancePercent: shape.priceTolerancePercent,
  })
  .superRefine((body, context) => {
    if ((body.offerId === undefined) === (body.requirements === undefined)) {
      context.addIssue({ code: 'custom', path: ['offerId'], message: 'is needed, or requirements instead, not both' });
    }
    if (body.requirements === undefined) return;
    for (const name of OF_OFFER) {
      if (body[name] !== undefined) {
        context.addIssue({ code: 'custom', path: [name], message: 'goes with offerId; say it in requirements' });
      }
    }
  })
  .meta({ id: 'CreateSession' });
export type CreateSession = z.output<typeof createSessionBody>;
export type CreateSessionInput = z.input<typeof createSessionBody>;

export const extendSessionBody = z.strictObject({
  hours: hours.meta({ description: 'Added to its end' }),
  overrideReason: reason.optional().meta({ description: 'Needed beyond its `maxLifetime`' }),
});

export const sessionListQuery = pageQuery.extend({
  status: commaList(SESSION_STATUSES).optional(),
  consumer: consumer.optional(),
});

export const session = z
  .object({
    id: id('session'),
    status: z.enum(SESSION_STATUSES),
    allowedActions: z.array(z.enum(SESSION_ACTIONS)),
    consumer: z.string().nullable(),
    purpose: z.string().nullable(),
    offerId: id('offer').nullable(),
    openedBy: z.string(),
    ssh: z
      .object({ host: z.string(), port: z.int(), user: z.string(), command: z.string() })
      .nullable()
      .meta({ description: 'Direct access, while it is open' }),
    hasSshKey: z.boolean().meta({ description: 'Whether `GET /sessions/{id}/ssh-key` has a private key for it' }),
    priceMicroUsdPerHour: microUsd.nullable(),
    accruedMicroUsd: microUsd,
    expiresAt: time.nullable(),
    latestExpiresAt: time.nullable().meta({ description: 'How far its end can be moved; null: without bound' }),
    overrideReason: z.string().nullable(),
    failureCode: z.string().nullable(),
    failureDetail: z.string().nullable(),
    createdAt: time,
    openedAt: time.nullable(),
    endedAt: time.nullable(),
    instance,
  })
  .meta({ id: 'Session' });
export type Session = z.infer<typeof session>;
export const sessionPage = pageOf(session).meta({ id: 'SessionPage' });

export const sessionAccepted = z.object({ operation: operationRef, session }).meta({ id: 'SessionAccepted' });
export type SessionAccepted = z.infer<typeof sessionAccepted>;
export const sessionEnded = z
  .object({ operation: operationRef.nullable().meta({ description: 'null: it was over already' }), session })
  .meta({ id: 'SessionEnded' });
export type SessionEnded = z.infer<typeof sessionEnded>;

export const sessionSshKey = z
  .object({ privateKey: z.string().meta({ description: 'In the format of OpenSSH' }), publicKey: z.string() })
  .meta({ id: 'SessionSshKey' });
export type SessionSshKey = z.infer<typeof sessionSshKey>;

export const sessionDiagnostics = z
  .object({
    sessionId: id('session'),
    status: z.enum(SESSION_STATUSES),
    summary: z.string().meta({ description: 'Where it stands, in a sentence' }),
    phase: z.string(),
    attempts: z.array(
      attempt.extend({
        vendorStatus: z.string().nullable().meta({ description: "The vendor's own words" }),
        vendorStatusAt: time.nullable(),
        check: z
          .object({
            at: time,
            verdict: z.enum(['not_yet', 'ready', 'failed']),
            reason: z.string().nullable(),
            ssh: z
              .object({ reached: z.boolean(), authenticated: z.boolean(), detail: z.string().nullable() })
              .nullable()
              .meta({ description: 'null: not tried, for want of an address' }),
            gpus: z
              .array(z.object({ name: z.string().nullable(), memoryMib: z.number().nullable() }))
              .nullable()
              .meta({ description: 'As nvidia-smi reports them; null: it gave nothing readable' }),
          })
          .nullable()
          .meta({ description: 'The last look at the machine' }),
      }),
    ),
    findings: z.array(finding),
    timeline: z
      .array(
        z.object({ at: time, operationId: id('operation'), type: z.string(), data: z.record(z.string(), z.unknown()) }),
      )
      .meta({ description: 'What its operations recorded, the last 200 of it' }),
  })
  .meta({ id: 'SessionDiagnostics' });
export type SessionDiagnostics = z.infer<typeof sessionDiagnostics>;
