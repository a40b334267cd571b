/** Properties between the engine's wire (protobuf Struct) and plain values. */
import struct from 'google-protobuf/google/protobuf/struct_pb.js';
import type { JavaScriptValue, Struct } from 'google-protobuf/google/protobuf/struct_pb.js';
import type { Properties } from '../../../providers-dynamic/dynamic-crud.ts';

/** Pulumi's marks inside of properties: the signature's key, and its values for a secret and for an output. */
const SIGNATURE = '4dabf18193072939515e22adb298388d';
const SECRET = '1b47061264138c4ac30d75fd1eb44270';
const OUTPUT = 'd0e6a833031e9bbcd3f4e8bde6ca49a4';
const UNKNOWN = '04da6b54-80e4-46f7-96ec-b56ff0331ba9';

/**
 * Secrets are unwrapped: the provider needs them in clear, and the engine marks answers again by their names, because we tell it
 * that we accept none. Unknown values (in a preview) stay Pulumi's marker text.
 */
export function fromStruct(message: Struct | undefined): Properties {
  return message === undefined ? {} : (unwrap(message.toJavaScript()) as Properties);
}

/** undefined is left out, because the wire has none; bigint must not get here. */
export function toStruct(properties: Properties): Struct {
  return struct.Struct.fromJavaScript(clean(properties) as Record<string, JavaScriptValue>);
}

function unwrap(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(unwrap);
  if (typeof value !== 'object' || value === null) return value;
  const entries = value as Record<string, unknown>;
  if (entries[SIGNATURE] === SECRET) return unwrap(entries.value);
  if (entries[SIGNATURE] === OUTPUT) return 'value' in entries ? unwrap(entries.value) : UNKNOWN;
  return Object.fromEntries(Object.entries(entries).map(([key, item]) => [key, unwrap(item)]));
}

function clean(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => (item === undefined ? null : clean(item)));
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([, item]) => item !== undefined);
  return Object.fromEntries(kept.map(([key, item]) => [key, clean(item)]));
}
