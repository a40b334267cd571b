/** Properties as the engine sends and keeps them: between the wire (protobuf Struct) and plain values, compared and walked. */
import struct from 'google-protobuf/google/protobuf/struct_pb.js';
import type { JavaScriptValue, Struct } from 'google-protobuf/google/protobuf/struct_pb.js';

export type Properties = Record<string, unknown>;

/** What the engine sends and takes for a value that a preview cannot know. */
export const UNKNOWN = '04da6b54-80e4-46f7-96ec-b56ff0331ba9';

/** Pulumi's marks inside of properties: the signature's key, and its values for a secret and for an output. */
const SIGNATURE = '4dabf18193072939515e22adb298388d';
const SECRET = '1b47061264138c4ac30d75fd1eb44270';
const OUTPUT = 'd0e6a833031e9bbcd3f4e8bde6ca49a4';

/** Secrets are unwrapped: arguments of a provider come wrapped even to one that accepts none. */
export function fromStruct(message: Struct | undefined): Properties {
  return message === undefined ? {} : (unwrap(message.toJavaScript()) as Properties);
}

export function toStruct(properties: Properties): Struct {
  return struct.Struct.fromJavaScript(withoutUndefined(properties) as Record<string, JavaScriptValue>);
}

export function isObject(value: unknown): value is Properties {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Whether an unknown is anywhere inside. */
export function hasUnknown(value: unknown): boolean {
  if (Array.isArray(value)) return value.some((item) => hasUnknown(item));
  if (isObject(value)) return Object.values(value).some((item) => hasUnknown(item));
  return value === UNKNOWN;
}

/** Objects equal whatever the order of their keys; undefined and a missing key are the same. */
export function isSame(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((item, index) => isSame(item, b[index]));
  }
  if (!isObject(a) || !isObject(b)) return false;
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...keys].every((key) => isSame(a[key], b[key]));
}

/** `scalingConfig.desiredSize`, `subnetIds[0]`; undefined where there is nothing. */
export function getPath(properties: unknown, path: string): unknown {
  let value = properties;
  for (const step of splitPath(path)) {
    if (Array.isArray(value)) value = value[Number(step)];
    else if (isObject(value)) value = value[step];
    else return undefined;
  }
  return value;
}

/** A copy with the value at the path; undefined removes it. Objects on the way are made. */
export function withPath(properties: Properties, path: string, value: unknown): Properties {
  const copy = structuredClone(properties);
  const steps = splitPath(path);
  const last = steps.pop()!;
  let at: Properties | unknown[] = copy;
  for (const step of steps) {
    const holder = at as Properties;
    if (typeof holder[step] !== 'object' || holder[step] === null) holder[step] = {};
    at = holder[step] as Properties | unknown[];
  }
  const holder = at as Properties;
  if (value === undefined) delete holder[last];
  else holder[last] = value;
  return copy;
}

function splitPath(path: string): string[] {
  return path.split(/[.[\]]/).filter((step) => step !== '');
}

export function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== UNKNOWN ? value : undefined;
}

/** As text, whatever it is: for messages and ids. */
export function asText(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
}

export function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

/** The texts of a list that are known. */
export function textsOf(value: unknown): string[] {
  return listOf(value).flatMap((item) => textOf(item) ?? []);
}

export function objectOf(value: unknown): Properties {
  return isObject(value) ? value : {};
}

function unwrap(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(unwrap);
  if (!isObject(value)) return value;
  if (value[SIGNATURE] === SECRET) return unwrap(value.value);
  if (value[SIGNATURE] === OUTPUT) return 'value' in value ? unwrap(value.value) : UNKNOWN;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, unwrap(item)]));
}

function withoutUndefined(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => (item === undefined ? null : withoutUndefined(item)));
  if (!isObject(value)) return value;
  const kept = Object.entries(value).filter(([, item]) => item !== undefined);
  return Object.fromEntries(kept.map(([key, item]) => [key, withoutUndefined(item)]));
}
