/** Webhooks on the wire: addresses that are told what happens, and the log of what they were told. */
import { z } from 'zod';
import { DELIVERY_STATUSES, WEBHOOK_FILTERS } from '../../domain/webhook.ts';
import { commaList, duration, id, pageOf, pageQuery, time } from './values.ts';

const url = z
  .string()
  .max(2_048)
  .superRefine((text, context) => {
    const message = explainBadUrl(text);
    if (message !== null) context.addIssue({ code: 'custom', message });
  })
  .meta({ description: 'https, without user name and password', example: 'https://example.com/hooks/muster' });

function explainBadUrl(text: string): string | null {
  if (!URL.canParse(text)) return 'must be a URL';
  const { protocol, username, password, hash } = new URL(text);
  if (protocol !== 'https:' && protocol !== 'http:') return 'must begin with https://';
  if (username !== '' || password !== '') return 'must not contain a user name or a password';
  return hash === '' ? null : 'must not contain a fragment';
}

const events = z
  .array(z.enum(WEBHOOK_FILTERS))
  .min(1)
  .max(WEBHOOK_FILTERS.length)
  .meta({ description: 'Which events it wants: one, all of a kind of object (`instance.*`), or all (`*`)' });

const description = z.string().trim().max(200);

export const createWebhookBody = z.strictObject({
  url,
  events: events.default(['*']),
  description: description.optional(),
  includesDeployment: z.boolean().default(false).meta({
    description: "Also what belongs to no org, such as findings of unknown owners; for the deployment's admin",
  }),
});

export const changeWebhookBody = z
  .strictObject({
    url: url.optional(),
    events: events.optional(),
    description: description.nullable().optional(),
    enabled: z
      .boolean()
      .optional()
      .meta({ description: 'Disabling cancels what is pending; enabling forgives what failed' }),
  })
  .refine((body) => Object.keys(body).length > 0, 'must change something');

const HOUR_MS = 3_600_000;
export const rotateWebhookBody = z.strictObject({
  overlap: duration(0, 168 * HOUR_MS, 'from 0 seconds to 7 days')
    .default('24 hours')
    .meta({ description: 'How long the present secret goes on signing beside the new one' }),
});

export const webhook = z
  .object({
    id: id('webhook'),
    url: z.string(),
    events: z.array(z.enum(WEBHOOK_FILTERS)),
    description: z.string().nullable(),
    includesDeployment: z.boolean(),
    enabled: z.boolean(),
    disabledReason: z.string().nullable(),
    failingSince: time.nullable().meta({ description: 'Of the first failed try since the last success' }),
    previousSecretUntil: time.nullable().meta({ description: 'Two secrets sign until then' }),
    createdBy: z.string(),
    createdAt: time,
  })
  .meta({ id: 'Webhook' });
export type Webhook = z.infer<typeof webhook>;
export const webhookPage = pageOf(webhook).meta({ id: 'WebhookPage' });

export const madeWebhook = webhook
  .extend({ secret: z.string().meta({ description: 'Shown only now', example: 'whsec_…' }) })
  .meta({ id: 'MadeWebhook' });

export const delivery = z
  .object({
    id: id('delivery').meta({ description: 'The same in every try: the header `webhook-id`' }),
    type: z.string().meta({ example: 'instance.ready' }),
    object: z.object({ kind: z.string(), id: z.string() }),
    data: z.record(z.string(), z.unknown()),
    happenedAt: time,
    status: z.enum(DELIVERY_STATUSES),
    tries: z.int(),
    nextTryAt: time.nullable().meta({ description: 'null: none is due' }),
    lastTryAt: time.nullable(),
    responseStatus: z.int().nullable(),
    responseExcerpt: z.string().nullable().meta({ description: 'The beginning of the last answer' }),
    error: z.string().nullable(),
    durationMs: z.int().nullable(),
    finishedAt: time.nullable(),
  })
  .meta({ id: 'Delivery' });
export type Delivery = z.infer<typeof delivery>;
export const deliveryPage = pageOf(delivery).meta({ id: 'DeliveryPage' });
export const deliveryListQuery = pageQuery.extend({ status: commaList(DELIVERY_STATUSES).optional() });
