/** Stacks on the wire: clusters, standbys, stores and whatever else a program makes of cloud resources. */
import { z } from 'zod';
import { STACK_KINDS } from '../../domain/stack-kind.ts';
import { STACK_NAME_PATTERN, STACK_NAME_RULE } from '../../domain/stack-kind.ts';
import { TAG_VALUE_PATTERN, TAG_VALUE_RULE } from '../../domain/stack-tags.ts';
import { DRIFT_POLICIES, STACK_STATUSES } from '../../domain/stack.ts';
import { TOLD_TYPES } from '../../domain/state/engine-event.ts';
import { STATE_UPDATE_KINDS, STATE_UPDATE_STATUSES } from '../../domain/state/update.ts';
import { STEP_OPS } from '../../domain/prices/price-diff.ts';
import { operationRef } from './operations.ts';
import { commaList, id, microUsd, pageOf, pageQuery, positiveUsd, time } from './values.ts';

/** Machines are rented by /instances, which know their money; the rest are made here. */
export const MADE_KINDS = STACK_KINDS.filter((kind) => kind !== 'instance');

const tag = z.string().regex(TAG_VALUE_PATTERN, TAG_VALUE_RULE);
const title = z.string().regex(STACK_NAME_PATTERN, STACK_NAME_RULE);
const config = z.record(z.string(), z.unknown()).meta({
  description: "What the kind's own schema says (`GET /stacks/kinds`). Credentials are never part of it",
});
const ceiling = positiveUsd.meta({
  description: 'A preview that costs more is refused, and so is its up. Prices that are not known do not count',
});
const protect = z
  .boolean()
  .meta({ description: 'Refuse to destroy, and to delete what loses data or service. Default true' });
const onDrift = z
  .enum(DRIFT_POLICIES)
  .meta({ description: 'When something was changed outside: `report` it, or `repair` it by an ordinary up' });

export const createStackBody = z
  .strictObject({
    name: title,
    kind: z.enum(MADE_KINDS),
    config,
    owner: tag.optional().meta({ description: 'Who answers for it: a tag on everything. Default: who asks' }),
    costCentre: tag.meta({ description: 'Who pays: a tag on everything' }),
    ceilingUsdPerHour: ceiling.optional(),
    protect: protect.default(true),
    onDrift: onDrift.default('report'),
  })
  .meta({ id: 'CreateStack' });

/** What is absent stays. Nothing is made by it: the next up carries it out. */
export const changeStackBody = z
  .strictObject({
    config: config.optional(),
    ceilingUsdPerHour: ceiling.nullable().optional(),
    protect: protect.optional(),
    onDrift: onDrift.optional(),
  })
  .meta({ id: 'ChangeStack' });

export const stack = z
  .object({
    id: id('stack'),
    name: z.string(),
    kind: z.enum(STACK_KINDS),
    status: z.enum(STACK_STATUSES),
    config: z.record(z.string(), z.unknown()),
    owner: z.string(),
    costCentre: z.string(),
    ceilingMicroUsdPerHour: microUsd.nullable(),
    protect: z.boolean(),
    onDrift: z.enum(DRIFT_POLICIES),
    resourceCount: z.int(),
    priceMicroUsdPerHour: microUsd
      .nullable()
      .meta({ description: 'Of what it holds, as far as prices are known; null: nothing was made yet' }),
    unpricedCount: z.int().meta({ description: 'Resources whose price is not known, or paid by use' }),
    operation: operationRef.nullable().meta({ description: 'The update under way' }),
    allowedActions: z.array(z.string()),
    driftedCount: z.int().nullable().meta({ description: 'null: nobody has looked yet' }),
    driftCheckedAt: time.nullable(),
    pendingCount: z.int().meta({
      description: 'Creates that were interrupted and that a person has to decide (`GET /stacks/{id}/pending`)',
    }),
    failure: z.object({ code: z.string(), detail: z.string() }).nullable(),
    createdAt: time,
    updatedAt: time.nullable(),
  })
  .meta({ id: 'Stack' });
export type StackReply = z.infer<typeof stack>;
export const stackPage = pageOf(stack).meta({ id: 'StackPage' });

export const stackListQuery = pageQuery.extend({
  kind: z.enum(STACK_KINDS).optional(),
  status: commaList(STACK_STATUSES).optional().meta({ description: 'Default: all but `destroyed`' }),
});

export const stackKinds = z
  .object({
    items: z.array(
      z.object({
        kind: z.enum(STACK_KINDS),
        config: z.record(z.string(), z.unknown()).meta({ description: 'JSON Schema of `config`' }),
      }),
    ),
  })
  .meta({ id: 'StackKinds' });

const price = z
  .object({
    kind: z.enum(['amount', 'usage', 'unknown']),
    microUsdPerHour: microUsd.nullable().meta({ description: 'null: not known, or paid by use' }),
    microUsdPer30Days: microUsd.nullable(),
    why: z.string().nullable(),
    parts: z.array(
      z.object({
        sku: z.string(),
        quantity: z.int(),
        microUsdPerHour: microUsd,
        source: z.string(),
        date: z.string().meta({ description: 'Of the quoted price' }),
      }),
    ),
  })
  .meta({ id: 'ResourcePrice' });

export const stackPlan = z
  .object({
    operation: operationRef,
    update: z.enum(['up', 'destroy']),
    changes: z.array(
      z.object({
        urn: z.string(),
        name: z.string(),
        type: z.string(),
        op: z.enum(STEP_OPS),
        changedInputs: z.array(z.string()),
        before: price.nullable(),
        after: price.nullable(),
      }),
    ),
    unchangedCount: z.int(),
    priceMicroUsdPerHour: microUsd.meta({ description: 'Of the whole stack afterwards, as far as it is known' }),
    priceMicroUsdPer30Days: microUsd,
    deltaMicroUsdPerHour: microUsd,
    deltaMicroUsdPer30Days: microUsd,
    unpriced: z.array(z.object({ urn: z.string(), why: z.string() })),
    violations: z
      .array(z.object({ rule: z.string(), resource: z.string().nullable(), message: z.string() }))
      .meta({ description: 'Policies that it would break: an up is refused' }),
    notes: z
      .array(z.string())
      .meta({ description: 'What else to know before it is carried out, such as that agents are off' }),
    planHash: z.string().meta({ description: 'An up that sends it does exactly this, or nothing' }),
    expiresAt: time,
  })
  .meta({ id: 'StackPlan' });
export type StackPlanReply = z.infer<typeof stackPlan>;

export const previewStackBody = z
  .strictObject({ update: z.enum(['up', 'destroy']).default('up') })
  .meta({ id: 'PreviewStack' });
export const upStackBody = z
  .strictObject({
    planHash: z
      .string()
      .regex(/^[0-9a-f]{64}$/, 'must be the planHash of a preview')
      .optional(),
  })
  .meta({ id: 'UpStack' });

export const stackAccepted = z.object({ operation: operationRef, stack }).meta({ id: 'StackAccepted' });

export const stackOutputs = z
  .object({
    outputs: z.record(z.string(), z.unknown()).meta({ description: 'Secret ones read "[secret]"' }),
    updatedAt: time.nullable(),
  })
  .meta({ id: 'StackOutputs' });

export const stackResource = z
  .object({
    urn: z.string(),
    name: z.string(),
    type: z.string(),
    id: z.string().nullable(),
    parent: z.string().nullable(),
    isProtected: z.boolean(),
    priceMicroUsdPerHour: microUsd.nullable(),
  })
  .meta({ id: 'StackResource' });
export const stackResources = z.object({ items: z.array(stackResource) }).meta({ id: 'StackResources' });

const pendingDecision = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('import'),
    id: z.string().min(1).max(2048).meta({ description: "The cloud's id of what was made" }),
  }),
  z.strictObject({ kind: z.literal('clear').meta({ description: 'It was not made, or is not to be known of' }) }),
]);

export const stackPending = z
  .object({
    items: z.array(
      z.object({
        urn: z.string(),
        name: z.string(),
        type: z.string(),
        why: z.string().meta({ description: 'Why nobody but a person can tell' }),
        found: z.array(z.string()).meta({ description: 'Ids of what there is and may be it' }),
        decision: pendingDecision.nullable(),
      }),
    ),
  })
  .meta({ id: 'StackPending' });

export const decidePendingBody = z
  .strictObject({
    decisions: z
      .array(z.strictObject({ urn: z.string().min(1), decision: pendingDecision }))
      .min(1)
      .max(1000),
  })
  .meta({ id: 'DecidePending' });

export const stackUpdate = z
  .object({
    id: z.uuid(),
    kind: z.enum(STATE_UPDATE_KINDS),
    result: z.enum(STATE_UPDATE_STATUSES),
    reason: z.string().nullable().meta({ description: 'Why it ended otherwise than by itself' }),
    who: z.string().meta({ description: 'Who asked for it' }),
    operationId: id('operation').nullable().meta({ description: 'null: the CLI of a person' }),
    message: z.string(),
    engineVersion: z.string(),
    version: z.int().nullable().meta({ description: 'Of the state that it made' }),
    changes: z
      .record(z.string(), z.int())
      .meta({ description: 'Resources by kind of step; empty where the engine did not come so far' }),
    startedAt: time.nullable(),
    endedAt: time.nullable(),
  })
  .meta({ id: 'StackUpdate' });
export type StackUpdateReply = z.infer<typeof stackUpdate>;
export const stackUpdatePage = pageOf(stackUpdate).meta({ id: 'StackUpdatePage' });

/** What held the stack and was canceled: one of the two. */
export const stackCanceled = z
  .object({
    operation: operationRef.nullable(),
    update: z
      .object({ id: z.uuid(), kind: z.enum(STATE_UPDATE_KINDS), who: z.string(), startedAt: time.nullable() })
      .nullable()
      .meta({ description: "Of a person's CLI: it has ended, and may write no more" }),
  })
  .meta({ id: 'StackCanceled' });
export type StackCanceledReply = z.infer<typeof stackCanceled>;

/** One event of an update, as the `data:` of a Server-Sent Event. */
export const stackUpdateEvent = z
  .object({
    updateId: z.uuid(),
    sequence: z.int(),
    at: time,
    type: z.enum(TOLD_TYPES),
    data: z.record(z.string(), z.unknown()),
  })
  .meta({ id: 'StackUpdateEvent' });
export type StackUpdateEvent = z.infer<typeof stackUpdateEvent>;

export const stackDrift = z
  .object({
    checkedAt: time.nullable().meta({ description: 'null: nobody has looked yet' }),
    items: z.array(
      z.object({
        urn: z.string(),
        name: z.string(),
        type: z.string(),
        kind: z.enum(['changed', 'deleted']),
        properties: z.array(z.string()),
        isInState: z.boolean().meta({
          description: 'A refresh took it into the state: the next up undoes it. Else an up after a refresh does',
        }),
      }),
    ),
  })
  .meta({ id: 'StackDrift' });
