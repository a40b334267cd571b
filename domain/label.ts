/**
 * The label on everything we buy: `muster-<deploymentId>-<attempt>-<signature>`, at most 63 characters of [a-z0-9-] so that it
 * fits every vendor's label or name. A machine is ours only with our deployment id and a valid signature; the label key is made
 * once and kept for verifying for ever. Signing needs a MAC, which the caller gives (domain code does no crypto).
 */
import { isBase32 } from './ids.ts';

export const MAX_LABEL_LENGTH = 63;
const SIGNATURE_LENGTH = 13;

/** Lower-case base32 text of at least 13 characters from an HMAC of `text` with the deployment's label key. */
export type LabelMac = (text: string) => string;

export function formatLabel(deploymentId: string, attemptId: string, mac: LabelMac): string {
  const body = attemptId.replace(/^att_/, '');
  const label = `muster-${deploymentId}-${body}-${mac(`${deploymentId}/${attemptId}`).slice(0, SIGNATURE_LENGTH)}`;
  if (label.length > MAX_LABEL_LENGTH) throw new RangeError(`label of ${label.length} characters: ${label}`);
  return label;
}

/**
 * Whose label it is: `ours` (our deployment, valid signature; with its attempt id), otherwise `foreign`: another
 * deployment's, a person's, a forged one, none at all. Foreign machines are never touched.
 */
export function readLabel(
  label: string | null,
  deploymentId: string,
  mac: LabelMac,
): { owner: 'ours'; attemptId: string } | { owner: 'foreign' } {
  const prefix = `muster-${deploymentId}-`;
  if (label === null || !label.startsWith(prefix)) return { owner: 'foreign' };
  const [body = '', signature = '', ...rest] = label.slice(prefix.length).split('-');
  if (rest.length > 0 || !isBase32(body, 16)) return { owner: 'foreign' };
  const attemptId = `att_${body}`;
  const expected = mac(`${deploymentId}/${attemptId}`).slice(0, SIGNATURE_LENGTH);
  return signature === expected ? { owner: 'ours', attemptId } : { owner: 'foreign' };
}

/** Lower case letters, digits and inner dashes, 3–20 characters. */
export const DEPLOYMENT_ID_PATTERN = /^[a-z0-9][a-z0-9-]{1,18}[a-z0-9]$/;
