/**
 * The configuration of the `instance` stack under plain `pulumi up`: `muster:<name>` in Pulumi.<stack>.yaml, the same words and
 * defaults as `POST /instances` where they mean something there. Schema only.
 */
import { PROVIDER_NAMES } from '../../domain/provider.ts';
import { DEFAULT_IMAGE } from '../../domain/provision-request.ts';
import { z } from 'zod';
import { parseUsd } from '../../domain/money.ts';

/** One update's worth of purchases; a fleet is the control plane's work. */
const MAX_COUNT = 100;

const usdPerHour = z
  .string()
  .refine(
    (text) => (parseUsd(text) ?? 0n) > 0n,
    'must be dollars per hour above zero, such as "0.60", with at most six decimals',
  );

export const instanceConfigSchema = z
  .strictObject({
    gpu: z.string().trim().min(1).describe('GPU model, such as "RTX 4090".'),
    maxPriceUsdPerHour: usdPerHour.describe('Highest price of one machine with its disk.'),
    count: z.int().min(1).max(MAX_COUNT).default(1).describe('How many machines.'),
    gpuCount: z.int().min(1).max(64).default(1).describe('GPUs in each machine.'),
    minGpuMemoryGib: z.int().min(1).optional().describe('Memory of one GPU.'),
    diskGib: z.int().min(8).max(100_000).default(40),
    image: z.string().regex(/^\S+$/, 'must be a container image reference').default(DEFAULT_IMAGE),
    provider: z.enum(PROVIDER_NAMES).default('vastai'),
    regions: z
      .array(z.string().regex(/^[A-Z]{2}$/, 'must be two-letter country codes'))
      .default([])
      .describe('Empty: any.'),
    minReliability: z.number().min(0).max(1).optional(),
    interruptible: z.boolean().default(false),
    bidUsdPerHour: usdPerHour.optional().describe('Only with interruptible: true. Default: maxPriceUsdPerHour.'),
    sshPublicKeys: z.array(z.string().regex(/^(ssh-|ecdsa-|sk-)\S+ \S+/, 'must be OpenSSH public keys')).default([]),
    env: z.record(z.string(), z.string()).default({}).describe('Set with --secret: it is kept encrypted.'),
    onStart: z.string().optional(),
  })
  .refine((config) => config.bidUsdPerHour === undefined || config.interruptible, {
    path: ['bidUsdPerHour'],
    message: 'only with interruptible: true',
  });

export type InstanceConfig = z.output<typeof instanceConfigSchema>;
