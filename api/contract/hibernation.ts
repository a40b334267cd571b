/** Hibernation on the wire: when an instance is put to sleep by itself, how it sleeps, and what waking it would cost. */
import { z } from 'zod';
import { HIBERNATION_CAUSES, HIBERNATION_STATUSES } from '../../domain/hibernation.ts';
import { DEFAULT_IDLE_RULE } from '../../domain/idle.ts';
import { DEFAULT_TOLERANCE_PERCENT, MAX_TOLERANCE_PERCENT } from '../../domain/provisioning/quotes.ts';
import { CLOCK_TIME, isTimeZone, WEEKDAYS } from '../../domain/sleep-schedule.ts';
import { duration, id, microUsd, reason, time } from './values.ts';

export const hibernateWhenIdle = z
  .strictObject({
    belowPercent: z.number().min(0.1).max(100).default(DEFAULT_IDLE_RULE.belowPercent).meta({
      description: 'Idle is what keeps every GPU below this, and declares no activity. What is not known is never idle',
    }),
    for: duration(60_000, 86_400_000, 'from 1 minute to 24 hours').default('3 minutes'),
  })
  .meta({ id: 'HibernateWhenIdle', description: 'Put to sleep after so long without work' });

const clockTime = z.string().regex(CLOCK_TIME, 'must be a time of day such as "20:00"');

export const hibernateSchedule = z
  .strictObject({
    timeZone: z
      .string()
      .max(64)
      .refine(isTimeZone, 'must be a time zone of the IANA database, such as "Europe/Stockholm"')
      .default('UTC'),
    windows: z
      .array(
        z.strictObject({
          days: z
            .array(z.enum(WEEKDAYS))
            .min(1)
            .max(WEEKDAYS.length)
            .default([...WEEKDAYS])
            .meta({ description: 'On which it begins' }),
          from: clockTime,
          to: clockTime.meta({ description: 'Not after `from`: on the next day' }),
        }),
      )
      .min(1)
      .max(28),
    wake: z.boolean().default(true).meta({ description: 'Whether it is woken when the window ends' }),
    evenIfBusy: z.boolean().default(false).meta({ description: 'Whether it is put to sleep though it works' }),
  })
  .meta({ id: 'HibernateSchedule', description: 'Windows of the week in which it sleeps' });

export const hibernationPolicyBody = z
  .strictObject({
    hibernateWhenIdle: hibernateWhenIdle.nullable().optional().meta({ description: 'null: never by itself' }),
    hibernateSchedule: hibernateSchedule.nullable().optional().meta({ description: 'null: none' }),
  })
  .refine((body) => Object.keys(body).length > 0, 'must change something')
  .meta({ id: 'HibernationPolicy', description: 'What is left out stays as it is' });

export const savings = z
  .object({
    asleepMs: z.int(),
    avoidedMicroUsd: microUsd.meta({ description: 'What its machines would have cost meanwhile' }),
    storageMicroUsd: microUsd,
    savedMicroUsd: microUsd.meta({ description: 'Avoided, less the storage' }),
  })
  .meta({ id: 'HibernationSavings' });
export type HibernationSavings = z.infer<typeof savings>;

export const hibernation = z
  .object({
    id: id('hibernation'),
    status: z.enum(HIBERNATION_STATUSES),
    cause: z.enum(HIBERNATION_CAUSES),
    snapshotId: id('snapshot').nullable(),
    beganAt: time,
    sleptAt: time.nullable().meta({ description: 'When its provider said not-found' }),
    nothingLeftAt: time.nullable().meta({
      description:
        'When believed listings after half an hour asleep showed once more that nothing of it is left anywhere',
    }),
    lifetimeLeftMs: z.int().nullable().meta({ description: 'Stands still while it sleeps; null: it has no end' }),
    storageBytes: z.int().nullable().meta({ description: 'Of its repository; null: not measured yet' }),
    storageMicroUsdPerMonth: microUsd
      .nullable()
      .meta({ description: 'By the price page of the store; null: not known' }),
    wakeFailures: z.int(),
    wakeFailureCode: z.string().nullable(),
    wakeFailureDetail: z.string().nullable(),
    failureCode: z.string().nullable().meta({ description: 'Why it did not fall asleep' }),
    failureDetail: z.string().nullable(),
  })
  .meta({ id: 'Hibernation' });
export type Hibernation = z.infer<typeof hibernation>;

export const hibernateBody = z
  .strictObject({ reason: reason.optional().meta({ description: 'Kept in the audit log' }) })
  .meta({ id: 'HibernateInstance' });

export const wakeBody = z
  .strictObject({
    dryRun: z.boolean().default(false).meta({ description: 'Answers with the plan and its price, and wakes nothing' }),
    planHash: z
      .string()
      .regex(/^[a-f0-9]{64}$/, 'must be the `planHash` of a dry run')
      .optional()
      .meta({ description: 'Of a dry run: refused with 409 `plan_changed` where its quotes no longer hold' }),
    priceTolerancePercent: z.number().min(0).max(MAX_TOLERANCE_PERCENT).default(DEFAULT_TOLERANCE_PERCENT),
  })
  .meta({ id: 'WakeInstance' });
