/** Stack configuration as Pulumi keeps it (text; JSON for lists, maps, numbers and booleans) into what a kind's schema says. */
import type { z } from 'zod';
import type { StackKind } from '../domain/stack-kind.ts';

/**
 * @param values without their namespace; `kind`, which chose the schema, is left out
 * @throws Error with every problem, one a line, each with its `muster:` name. Values are not shown: they may be secret.
 */
export function parseStackConfig<Schema extends z.ZodObject>(
  kind: StackKind,
  schema: Schema,
  values: Record<string, string>,
): z.output<Schema> {
  const raw = Object.fromEntries(
    Object.entries(values)
      .filter(([name]) => name !== 'kind')
      .map(([name, text]) => [name, isText(schema.shape[name] as TypedSchema | undefined) ? text : parseJson(text)]),
  );
  const parsed = schema.safeParse(raw);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `  muster:${issue.path.join('.') || 'config'}: ${issue.message}`);
  throw new Error(`the configuration of this ${kind} stack is wrong:\n${problems.join('\n')}`);
}

interface TypedSchema {
  def: { type: string; innerType?: TypedSchema; in?: TypedSchema; values?: unknown[] };
}

/** Texts in the schema stay as they are written: "0.60" is no number, nor is a version "1.30". */
function isText(schema: TypedSchema | undefined): boolean {
  if (!schema) return false;
  const { type, innerType, in: before, values } = schema.def;
  const inner = innerType ?? before;
  if (inner) return isText(inner);
  return type === 'string' || type === 'enum' || (values ?? []).some((value) => typeof value === 'string');
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
