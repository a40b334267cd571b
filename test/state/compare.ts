/** Two states as one: what differs between two replays of the same journal and means nothing is taken away. */
import type { VersionedDeployment } from '../../domain/state/deployment.ts';

/**
 * The order of what had not ended is a map's in the engine's replayer. It writes members that are empty where ours leaves them out, or the
 * other way round, which its readers take for the same.
 */
export function comparable({ version, features, deployment }: VersionedDeployment): unknown {
  const { manifest: _manifest, pending_operations: pending = [], ...rest } = deployment;
  const operations = [...pending].sort((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b)));
  return { version, features: features ?? [], deployment: withoutEmpty({ ...rest, pending_operations: operations }) };
}

function withoutEmpty(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutEmpty);
  if (typeof value !== 'object' || value === null) return value;
  const members = Object.entries(value)
    .map(([key, member]): [string, unknown] => [key, withoutEmpty(member)])
    .filter(([, member]) => !isEmpty(member));
  return Object.fromEntries(members);
}

function isEmpty(value: unknown): boolean {
  if (value === null || value === '' || value === false) return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}
