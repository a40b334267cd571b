/** Names of endpoints on the wire: a record in one's own DNS zone that follows an instance wherever it goes. */
import { z } from 'zod';
import { TAG_VALUE_PATTERN, TAG_VALUE_RULE } from '../../domain/stack-tags.ts';
import { operationRef } from './operations.ts';
import { id, time } from './values.ts';

const tag = z.string().regex(TAG_VALUE_PATTERN, TAG_VALUE_RULE);

export const nameEndpointBody = z
  .strictObject({
    zoneId: z.string().max(32).meta({ description: 'Of a hosted zone at Route 53 in which the name lies' }),
    hostname: z
      .string()
      .max(253)
      .meta({ description: 'Full name, without a dot at its end', example: 'train.example.com' }),
    ttl: z.int().min(1).max(86_400).default(60).meta({ description: 'Seconds for which others may keep the answer' }),
    owner: tag.optional().meta({ description: 'Who answers for it. Default: who asks' }),
    costCentre: tag.optional().meta({ description: "Who pays. Default: the org's id" }),
  })
  .meta({ id: 'NameEndpoint' });
export type NameEndpointInput = z.infer<typeof nameEndpointBody>;

export const endpointName = z
  .object({
    instanceId: id('instance'),
    hostname: z.string(),
    stackId: id('stack'),
    host: z.string().nullable().meta({ description: 'Where it is to lead; null: nowhere, so that it is not there' }),
    port: z.int().nullable().meta({ description: 'Told by the record _ssh._tcp.<hostname>' }),
    isCurrent: z.boolean().meta({ description: 'The zone has it so' }),
    failure: z.string().nullable().meta({ description: 'Why the last update failed; it is tried again every minute' }),
    createdAt: time,
  })
  .meta({ id: 'EndpointName' });
export type EndpointNameReply = z.infer<typeof endpointName>;

export const endpointNameAccepted = z
  .object({ operation: operationRef, name: endpointName })
  .meta({ id: 'EndpointNameAccepted' });
