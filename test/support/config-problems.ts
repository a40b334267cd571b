import type { z } from 'zod';

/** "path: message" of everything that is wrong; empty: nothing. */
export function problemsOf(schema: z.ZodType, config: unknown): string[] {
  const parsed = schema.safeParse(config);
  return parsed.success ? [] : parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
}
