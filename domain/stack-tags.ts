/**
 * Who pays and answers for what a stack makes: the same four keys at every cloud. AWS and Azure call them tags, Google and Kubernetes
 * labels, whose values are narrower.
 */
export interface StackTags {
  /** Person or team that answers for it. */
  owner: string;
  /** Our deployment id; `ext` where no control plane runs the stack. */
  deployment: string;
  costCentre: string;
}

export const TAG_KEYS = {
  owner: 'muster-owner',
  deployment: 'muster-deployment',
  costCentre: 'muster-cost-centre',
  stack: 'muster-stack',
} as const;

/** On a node group, whose disks are described in a launch template elsewhere: so that a price can be told of the group alone. */
export const DISK_TAG = 'muster-disk-gib';

/** Without them nobody can say whose a resource is: the policy wants all of them. */
export const REQUIRED_TAGS: readonly string[] = [TAG_KEYS.owner, TAG_KEYS.deployment, TAG_KEYS.costCentre];

/** What AWS and Azure both take as a value: at most 256 characters of these. */
export const TAG_VALUE_PATTERN = /^[\p{L}\p{N}][\p{L}\p{N} _.:/=+@-]{0,127}$/u;
export const TAG_VALUE_RULE =
  'must be 1 to 128 letters, digits, spaces and _ . : / = + @ -, beginning with a letter or digit';

/** Keys sorted, so that the engine sees the same text each time. */
export function formatTags(tags: StackTags, stack: string): Record<string, string> {
  return {
    [TAG_KEYS.costCentre]: tags.costCentre,
    [TAG_KEYS.deployment]: tags.deployment,
    [TAG_KEYS.owner]: tags.owner,
    [TAG_KEYS.stack]: stack,
  };
}

/** The same for Google and Kubernetes: lower-case letters, digits, dashes and underscores, at most 63 characters. */
export function formatLabels(tags: StackTags, stack: string): Record<string, string> {
  const entries = Object.entries(formatTags(tags, stack)).map(([key, value]) => [key, labelValue(value)] as const);
  return Object.fromEntries(entries);
}

function labelValue(value: string): string {
  const narrow = value
    .normalize('NFKD')
    .toLowerCase()
    .replace(/\p{M}/gu, '')
    .replace(/[^a-z0-9_-]+/g, '-')
    .slice(0, 63)
    .replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, '');
  return narrow === '' ? 'unnamed' : narrow;
}
