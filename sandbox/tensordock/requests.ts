/**
 * The bodies that the vendor takes, as its contract states them; there is no published client to check against. What is malformed
 * or not known is refused with the vendor's validation array.
 */
import { z } from 'zod';
import { VendorRefusal } from '../rental/api.ts';

const IMAGES = [
  'ubuntu2204',
  'ubuntu2404',
  'ubuntu2404_ml_everything',
  'ubuntu2404_ml_pytorch',
  'ubuntu2404_ml_tensorflow',
  'debian12',
  'ubuntu2004',
  'windows10',
] as const;
const RAM_SIZES = [2, 4, 6, 8, 10, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 512];
const MIN_STORAGE_GB = 100;
const STORAGE_STEP_GB = 50;
const MAX_GPUS = 8;

const vcpus = z
  .number()
  .int()
  .min(2)
  .refine((count) => count % 2 === 0, 'vCPU count must be a multiple of 2');
const ram = z
  .number()
  .int()
  .refine((size) => RAM_SIZES.includes(size), `RAM must be one of ${RAM_SIZES.join(', ')} GB`);
const port = z.number().int().min(1).max(65_535);
const uuid = z.guid();

const cloudInitSchema = z.strictObject({
  packages: z.array(z.string()).optional(),
  package_update: z.boolean().optional(),
  package_upgrade: z.boolean().optional(),
  runcmd: z.array(z.string()).optional(),
  // No encoding: base64 was seen not to be taken.
  write_files: z
    .array(
      z.strictObject({
        path: z.string().min(1),
        content: z.string(),
        owner: z.string().optional(),
        permissions: z.string().optional(),
      }),
    )
    .optional(),
  // Taken, and not honoured.
  ssh_authorized_keys: z.array(z.string()).optional(),
});

const attributesSchema = z
  .strictObject({
    name: z.string().min(1).max(100),
    type: z.literal('virtualmachine'),
    image: z.enum(IMAGES),
    resources: z.strictObject({
      vcpu_count: vcpus,
      ram_gb: ram,
      storage_gb: z.number().int().min(MIN_STORAGE_GB),
      gpus: z.record(z.string(), z.strictObject({ count: z.number().int().min(1).max(MAX_GPUS) })).optional(),
    }),
    location_id: uuid.optional(),
    hostnode_id: uuid.optional(),
    useDedicatedIp: z.boolean().optional(),
    port_forwards: z
      .array(z.strictObject({ internal_port: port, external_port: port, protocol: z.enum(['tcp', 'udp']).optional() }))
      .optional(),
    ssh_key: z.string().min(1).optional(),
    ssh_key_id: uuid.optional(),
    cloud_init: cloudInitSchema.optional(),
  })
  .superRefine((order, context) => {
    const refuse = (message: string, ...path: string[]): void =>
      context.addIssue({ code: 'custom', message, path, input: order });
    const gpuTypes = Object.keys(order.resources.gpus ?? {}).length;
    const isWindows = order.image.startsWith('windows');
    const keys = [order.ssh_key, order.ssh_key_id].filter((key) => key !== undefined).length;
    if ((order.location_id === undefined) === (order.hostnode_id === undefined))
      refuse('Exactly one of location_id and hostnode_id is required');
    if (order.location_id !== undefined && gpuTypes === 0)
      refuse('At least one GPU is required for location deployments', 'resources', 'gpus');
    if (gpuTypes > 1) refuse('Only one GPU type per virtual machine', 'resources', 'gpus');
    if (!isWindows && keys === 0) refuse('An SSH key is required', 'ssh_key');
    if (keys === 2) refuse('Only one of ssh_key and ssh_key_id is allowed', 'ssh_key');
    const forwardsSsh = (order.port_forwards ?? []).some((forward) => forward.internal_port === 22);
    if (order.image.startsWith('ubuntu') && order.useDedicatedIp !== true && !forwardsSsh)
      refuse('SSH port (22) must be forwarded for Ubuntu VMs', 'port_forwards');
  });

const createSchema = z.strictObject({
  data: z.strictObject({ type: z.literal('virtualmachine'), attributes: attributesSchema }),
});
export type CreateOrder = z.infer<typeof attributesSchema>;

const secretSchema = z.strictObject({
  data: z.strictObject({
    type: z.literal('secret'),
    attributes: z.strictObject({ name: z.string().min(1), type: z.string().min(1), value: z.string().min(1) }),
  }),
});

const modifySchema = z.strictObject({
  cpuCores: vcpus.optional(),
  ramGb: ram.optional(),
  diskGb: z.number().int().multipleOf(STORAGE_STEP_GB).optional(),
  gpus: z.strictObject({ gpuV0Name: z.string().min(1), count: z.number().int().min(0).max(MAX_GPUS) }).optional(),
});

/** Each throws VendorRefusal with the validation array. */
export function readCreate(body: unknown): CreateOrder {
  return parse(createSchema, body).data.attributes;
}
export function readSecret(body: unknown): z.infer<typeof secretSchema>['data']['attributes'] {
  return parse(secretSchema, body).data.attributes;
}
export function readModify(body: unknown): z.infer<typeof modifySchema> {
  return parse(modifySchema, body);
}

/** The name that a purchase gives, valid or not. */
export function nameIn(body: unknown): string {
  const name = (body as { data?: { attributes?: { name?: unknown } } }).data?.attributes?.name;
  return typeof name === 'string' ? name : '';
}

export function toValidation(
  issues: readonly { code?: string; message: string; path: PropertyKey[] }[],
): VendorRefusal {
  const body = issues.map(({ code, message, path }) => ({ code: code ?? 'custom', message, path }));
  return new VendorRefusal({ status: 400, body });
}

function parse<Output>(schema: z.ZodType<Output>, body: unknown): Output {
  const parsed = schema.safeParse(body);
  if (!parsed.success) throw toValidation(parsed.error.issues);
  return parsed.data;
}
