/** Urns of resources in the engine's state: `urn:pulumi:<stack>::<project>::<parent type$…$type>::<name>`. Format of the engine's SDK (resource/urn). */

const SEPARATOR = '::';
const TYPE_SEPARATOR = '$';
export const ROOT_STACK_TYPE = 'pulumi:pulumi:Stack';

export interface UrnParts {
  /** With the prefix `urn:pulumi:`. */
  stack: string;
  project: string;
  /** Types of its parents and its own, joined by `$`. */
  qualifiedType: string;
  /** May hold any character, the separator too. */
  name: string;
}

/** Parts that are missing are empty: the engine is as lenient with what it finds in a state. */
export function parseUrn(urn: string): UrnParts {
  const [stack = '', project = '', qualifiedType = '', ...name] = urn.split(SEPARATOR);
  return { stack, project, qualifiedType, name: name.join(SEPARATOR) };
}

export function typeOf(urn: string): string {
  return parseUrn(urn).qualifiedType.split(TYPE_SEPARATOR).at(-1) ?? '';
}

/** The stack itself and its providers: the engine's own, no resource of anybody's. */
export function isBookkeeping(type: string): boolean {
  return type === ROOT_STACK_TYPE || type.startsWith('pulumi:providers:');
}

/** `urn` as a child of a parent whose qualified type is `parentType`. */
export function underParent(urn: string, parentType: string): string {
  const { stack, project, name } = parseUrn(urn);
  const type = typeOf(urn);
  const isUnderRoot = parentType === '' || parentType === ROOT_STACK_TYPE;
  const qualifiedType = isUnderRoot ? type : `${parentType}${TYPE_SEPARATOR}${type}`;
  return [stack, project, qualifiedType, name].join(SEPARATOR);
}
