/** Standbys on the wire: what takes over for an instance, and how old the data is that it would serve. */
import { z } from 'zod';
import { DRILL_MODES, DRILL_PHASES, DRILL_STATUSES } from '../../domain/drill.ts';
import { STACK_NAME_PATTERN, STACK_NAME_RULE } from '../../domain/stack-kind.ts';
import { TAG_VALUE_PATTERN, TAG_VALUE_RULE } from '../../domain/stack-tags.ts';
import { MAX_RPO_MS, MIN_RPO_MS, STANDBY_ACTIONS, STANDBY_STATES, STANDBY_STATUSES } from '../../domain/standby.ts';
import { operationRef } from './operations.ts';
import { commaList, duration, id, microUsd, pageOf, pageQuery, positiveUsd, time } from './values.ts';

const tag = z.string().regex(TAG_VALUE_PATTERN, TAG_VALUE_RULE);
const HOUR_MS = 3_600_000;

const milliseconds = z.int().min(0);

export const drillTargets = z
  .strictObject({
    detection: duration(1_000, HOUR_MS, 'from 1 second to 1 hour').nullable().optional().meta({
      description: 'Within which the loss is noticed. Default: 20 seconds; null: not judged, likewise the others',
    }),
    rto: duration(1_000, 24 * HOUR_MS, 'from 1 second to 24 hours')
      .nullable()
      .optional()
      .meta({
        description:
          'Within which the workload is served again. Default: 30 seconds for a warm standby, else 5 minutes',
      }),
    rpo: duration(MIN_RPO_MS, MAX_RPO_MS, 'from 10 seconds to 7 days').nullable().optional().meta({
      description: "How old the data may be that is served then. Default: the standby's rpo",
    }),
    costUsd: positiveUsd.nullable().optional().meta({ description: 'Of all of it. Default: not judged' }),
  })
  .meta({ id: 'DrillTargets' });
export type DrillTargetsInput = z.infer<typeof drillTargets>;

const consent = z
  .literal(true)
  .optional()
  .meta({ description: 'Needed where the workload is a real one: its machine is taken away, and another is rented' });

export const drillPolicy = z
  .strictObject({
    every: duration(HOUR_MS, 365 * 24 * HOUR_MS, 'from 1 hour to 365 days'),
    mode: z.enum(DRILL_MODES).default('sandbox'),
    consent,
    targets: drillTargets.optional(),
  })
  .refine((policy) => policy.mode === 'sandbox' || policy.consent === true, {
    path: ['consent'],
    message: 'must be true: a drill takes the machine of a real workload away',
  });

export const createStandbyBody = z
  .strictObject({
    instanceId: id('instance').meta({ description: 'For which it stands by: one at a time' }),
    name: z.string().regex(STACK_NAME_PATTERN, STACK_NAME_RULE),
    state: z.enum(STANDBY_STATES).default('stopped').meta({
      description:
        'warm runs, is kept restored and serves within seconds; stopped costs only its disks and is promised no capacity',
    }),
    rpo: duration(MIN_RPO_MS, MAX_RPO_MS, 'from 10 seconds to 7 days').meta({
      description: 'Recovery point objective: how old the data may be that it would serve',
      example: '5 minutes',
    }),
    config: z.record(z.string(), z.unknown()).meta({
      description:
        'As the standby stack takes it (`GET /stacks/kinds`): project and zone at least; state and agent are given by the request',
    }),
    owner: tag.optional().meta({ description: 'Who answers for it: a tag on everything. Default: who asks' }),
    costCentre: tag.optional().meta({ description: "Who pays: a tag on everything. Default: the org's id" }),
    ceilingUsdPerHour: positiveUsd
      .optional()
      .meta({ description: 'What costs more is refused before anything is made' }),
    protect: z.boolean().default(false).meta({ description: 'Refuse to delete it and its data disk' }),
    drills: drillPolicy.optional().meta({ description: 'Drills that run by themselves. Default: none' }),
    dryRun: z.boolean().default(false).meta({ description: 'Only say what would be made and what it would cost' }),
    planHash: z
      .string()
      .regex(/^[0-9a-f]{64}$/, 'must be the planHash of a dry run')
      .optional()
      .meta({ description: 'Of a dry run: exactly that is made, or nothing' }),
  })
  .meta({ id: 'CreateStandby' });
export type CreateStandbyInput = z.infer<typeof createStandbyBody>;

export const standby = z
  .object({
    id: id('standby'),
    name: z.string(),
    instanceId: id('instance'),
    status: z.enum(STANDBY_STATUSES),
    state: z.enum(STANDBY_STATES).meta({ description: 'As declared, for while nothing has failed' }),
    rpoMs: milliseconds,
    lag: z
      .object({
        recoveryPointAt: time
          .nullable()
          .meta({ description: 'What the newest verified snapshot shows; null: there is none' }),
        ageMs: milliseconds.nullable(),
        isBehind: z.boolean().meta({ description: 'Older than rpoMs, as of the last look' }),
        behindSince: time.nullable(),
        reason: z.string().nullable(),
        checkedAt: time.nullable().meta({ description: 'null: nobody has looked yet' }),
      })
      .meta({ description: 'How old the data is that could be restored' }),
    synced: z
      .object({
        snapshotId: id('snapshot').nullable(),
        to: time.nullable(),
        ageMs: milliseconds.nullable(),
        isUnderWay: z.boolean(),
        failure: z.string().nullable(),
      })
      .meta({ description: 'What is on its disk' }),
    stackId: id('stack'),
    nodeId: id('node').nullable(),
    address: z.string().nullable(),
    agent: z.object({
      registeredAt: time.nullable().meta({ description: 'null: it has never run; a drill proves it' }),
      lastHeartbeatAt: time.nullable(),
    }),
    servingSince: time.nullable(),
    priceMicroUsdPerHour: microUsd.nullable().meta({ description: 'Of what its stack holds; null: nothing yet' }),
    drills: z
      .object({ everyMs: z.int(), mode: z.enum(DRILL_MODES) })
      .nullable()
      .meta({ description: 'null: none by themselves' }),
    drilledAt: time.nullable(),
    operation: operationRef.nullable().meta({ description: 'What is under way on its stack' }),
    allowedActions: z.array(z.enum(STANDBY_ACTIONS)),
    failure: z.object({ code: z.string(), detail: z.string() }).nullable(),
    createdAt: time,
  })
  .meta({ id: 'Standby' });
export type StandbyReply = z.infer<typeof standby>;
export const standbyPage = pageOf(standby).meta({ id: 'StandbyPage' });

export const standbyListQuery = pageQuery.extend({
  instanceId: id('instance').optional(),
  status: commaList(STANDBY_STATUSES).optional().meta({ description: 'Default: all but `destroyed`' }),
});

export const standbyAccepted = z
  .object({
    operation: operationRef,
    standby: standby.nullable().meta({
      description: 'null: a dry run that takes long; its plan is `GET /stacks/:id/plans/:operationId`',
    }),
  })
  .meta({ id: 'StandbyAccepted' });
export type StandbyAccepted = z.infer<typeof standbyAccepted>;

const ms = milliseconds.nullable();

export const createDrillBody = z
  .strictObject({
    standbyId: id('standby'),
    mode: z.enum(DRILL_MODES).default('sandbox').meta({
      description:
        'sandbox: the simulated machine is killed, and has to be missed by itself. consented: a real one is fenced and destroyed, as by a manual failover',
    }),
    consent,
    targets: drillTargets.optional(),
  })
  .refine((body) => body.mode === 'sandbox' || body.consent === true, {
    path: ['consent'],
    message: 'must be true: the machine of a real workload is taken away',
  })
  .meta({ id: 'CreateDrill' });

export const drill = z
  .object({
    id: id('drill'),
    standbyId: id('standby'),
    instanceId: id('instance'),
    failoverId: id('failover').nullable(),
    mode: z.enum(DRILL_MODES),
    status: z.enum(DRILL_STATUSES),
    phase: z.enum(DRILL_PHASES),
    targets: z
      .object({ detectionMs: ms, rtoMs: ms, rpoMs: ms, costMicroUsd: microUsd.nullable() })
      .meta({ description: 'null members are not judged' }),
    measures: z
      .object({
        detectionMs: ms.meta({
          description: 'From the loss until it was noticed; null: not measured, likewise the others',
        }),
        rtoMs: ms.meta({ description: 'From the loss until the workload was served again' }),
        rpoMs: ms.meta({ description: 'How old the data was that was served then' }),
        restoredMs: ms.meta({ description: 'From the loss until its replacement had the workload' }),
        costMicroUsd: microUsd.nullable(),
      })
      .nullable()
      .meta({ description: 'null: not over' }),
    failures: z.array(z.string()).meta({ description: 'Targets that were missed, and whatever else went wrong' }),
    moments: z.object({
      begun: time.optional(),
      recoveryPoint: time.optional().meta({ description: 'That what was served shows' }),
      lost: time.optional(),
      detected: time.optional(),
      serving: time.optional(),
      complete: time.optional(),
    }),
    operationId: id('operation').nullable(),
    createdAt: time,
    finishedAt: time.nullable(),
  })
  .meta({ id: 'Drill' });
export type DrillReply = z.infer<typeof drill>;
export const drillPage = pageOf(drill).meta({ id: 'DrillPage' });

export const drillListQuery = pageQuery.extend({
  standbyId: id('standby').optional(),
  status: commaList(DRILL_STATUSES).optional(),
});

export const drillAccepted = z.object({ operation: operationRef, drill }).meta({ id: 'DrillAccepted' });
export type DrillAccepted = z.infer<typeof drillAccepted>;
