/** Which rule is a pending create's, and what a read of its resource says: that it is another's, that it is not done yet, or that it is it. */
import { TAG_KEYS } from '../stack-tags.ts';
import { AWS_PENDING_RULES } from './aws-rules.ts';
import { AZURE_PENDING_RULES } from './azure-rules.ts';
import { GCP_PENDING_RULES } from './gcp-rules.ts';
import { byName, objectOf, textOf, type Inputs, type PendingRule } from './rule.ts';

const RULES = { ...AWS_PENDING_RULES, ...AZURE_PENDING_RULES, ...GCP_PENDING_RULES };

/** Ids of https://www.pulumi.com/registry/packages/kubernetes/api-docs/: `namespace/name`, or the name alone where there is no namespace. */
const KUBERNETES_RULE = byName((inputs) => {
  const { name, namespace } = 'metadata' in inputs ? objectOf(inputs.metadata) : inputs;
  return namespace === undefined ? textOf(name) : [textOf(namespace), '/', textOf(name)];
});

const CLOUDS = ['aws', 'azure-native', 'gcp', 'kubernetes'] as const;

/** Whether it is looked up at a cloud at all; the rest are machines of ours, which know their own way. */
export function isCloudType(type: string): boolean {
  return CLOUDS.some((cloud) => type.startsWith(`${cloud}:`));
}

/** undefined: nobody wrote one; a person has to decide. */
export function findPendingRule(type: string): PendingRule | undefined {
  return type.startsWith('kubernetes:') ? KUBERNETES_RULE : RULES[type];
}

/** Words by which a cloud says that what was asked for is under way. */
const UNDER_WAY = /^(creating|pending|provisioning|staging|accepted|attaching|associating)$/i;
/** Helm's own word for an installation that was cut off: neither an upgrade nor another installation is let through. */
const CUT_OFF = /^pending-(install|upgrade|rollback)$/;

export type Reading =
  | { kind: 'ours' }
  /** It is being made: asking again later tells more. */
  | { kind: 'unfinished'; status: string }
  /** It has the name or the place, and the marks of another stack or none. */
  | { kind: 'foreign' }
  /** It cannot be finished nor made anew by itself. */
  | { kind: 'cut_off'; status: string };

export function judgeReading(inputs: Inputs, outputs: Inputs): Reading {
  if (!hasOurMarks(inputs, outputs)) return { kind: 'foreign' };
  const words = [outputs.status, outputs.state, outputs.provisioningState, outputs.currentStatus];
  const status = words.map(textOf).find((word) => word !== undefined && UNDER_WAY.test(word));
  if (status !== undefined) return { kind: 'unfinished', status };
  const release = textOf(objectOf(outputs.status).status);
  return release !== undefined && CUT_OFF.test(release) ? { kind: 'cut_off', status: release } : { kind: 'ours' };
}

/** Whoever cannot be marked is told by the name alone. */
function hasOurMarks(inputs: Inputs, outputs: Inputs): boolean {
  const wanted = marksOf(inputs);
  const found = { ...marksOf(outputs), ...objectOf(outputs.tagsAll), ...objectOf(outputs.effectiveLabels) };
  return [TAG_KEYS.stack, TAG_KEYS.deployment].every((key) => wanted[key] === undefined || wanted[key] === found[key]);
}

function marksOf({ tags, labels, metadata }: Inputs): Record<string, unknown> {
  return { ...objectOf(objectOf(metadata).labels), ...objectOf(labels), ...objectOf(tags) };
}
