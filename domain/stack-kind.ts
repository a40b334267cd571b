/** The kinds of stack and how stacks are named. What a kind makes is told in stacks/. */

export const STACK_KINDS = [
  'instance',
  'eks',
  'aks',
  'onprem',
  'onprem-node',
  'standby',
  'snapshots',
  'dns-record',
] as const;
export type StackKind = (typeof STACK_KINDS)[number];

/**
 * A stack's name begins the name of everything it makes, so it must fit the narrowest place: an IAM role of 64 characters that also
 * tells region and part, a GCE name of lower-case letters, digits and dashes.
 */
export const STACK_NAME_PATTERN = /^[a-z](?:[a-z0-9-]{0,28}[a-z0-9])?$/;
export const STACK_NAME_RULE =
  'must be 1 to 30 lower-case letters, digits and inner dashes, beginning with a letter (it begins the name of everything the stack makes)';
