/** The bodies that RunPod takes, strictly: whatever is not in the schema is refused with 422 and a line for each violation. */
import { z } from 'zod';
import { problem, refuse } from './problems.ts';
import { VendorRefusal } from '../rental/api.ts';

const CUDA_PATTERN = /^\d+\.\d+$/;

const container = {
  image: z.string(),
  args: z.string(),
  disk: z.int().min(1),
  env: z.record(z.string(), z.string()),
  ports: z.array(z.string()),
  registry: z.string().nullable(),
};
const mounts = z.strictObject({
  persistent: z.strictObject({ size: z.int().min(10), path: z.string() }).optional(),
  network: z
    .array(z.strictObject({ volumeId: z.string(), path: z.string() }))
    .max(1)
    .optional(),
});

export const createPodSchema = z
  .strictObject({
    ...container,
    name: z.string().min(1),
    cloud: z.enum(['SECURE', 'COMMUNITY']),
    cpu: z.strictObject({ id: z.string().min(1), vcpuCount: z.int().min(2) }),
    dataCenterIds: z.array(z.string()),
    globalNetworking: z.boolean(),
    gpu: z.strictObject({
      id: z.string(),
      count: z.int().min(1).optional(),
      allowedCudaVersions: z.array(z.string().regex(CUDA_PATTERN)).optional(),
      minCudaVersion: z.string().regex(CUDA_PATTERN).optional(),
    }),
    mounts,
    startJupyter: z.boolean(),
    startSsh: z.boolean(),
    templateId: z.string().min(1),
  })
  .partial()
  .required({ name: true });
export type CreatePodBody = z.infer<typeof createPodSchema>;

export const updatePodSchema = z
  .strictObject({
    ...container,
    name: z.string().min(1),
    mounts,
    locked: z.boolean(),
    globalNetworking: z.boolean(),
    templateId: z.string(),
  })
  .partial();
export type UpdatePodBody = z.infer<typeof updatePodSchema>;

export const actionSchema = z.strictObject({ action: z.enum(['start', 'stop', 'restart', 'terminate']) });

export const sshKeysSchema = z.strictObject({
  keys: z.array(z.string().regex(/^(ssh|ecdsa|sk)-[^\s]+ [^\s]+([ \t][^\n\r]*)?$/)),
});

/** Throws VendorRefusal (422) naming every violation. */
export function readBodyAs<Schema extends z.ZodType>(schema: Schema, body: unknown): z.infer<Schema> {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  throw refuse(422, 'Request validation failed.', result.error.issues.flatMap(describeIssue));
}

function describeIssue(issue: z.core.$ZodIssue): string[] {
  const path = ['$', ...issue.path.map(String)].join('.');
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => `${path}: additional properties '${key}' not allowed`);
  return [`${path}: ${issue.message}`];
}

/** A body that is no JSON object is refused before its schema is looked at. */
export function parseBody(text: string): Record<string, unknown> | VendorRefusal {
  if (text.trim() === '') return {};
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body as Record<string, unknown>;
  } catch {
    return new VendorRefusal(problem(400, 'request body is malformed JSON'));
  }
  return new VendorRefusal(problem(422, 'Request validation failed.', { errors: ['$: got no object, want object'] }));
}
