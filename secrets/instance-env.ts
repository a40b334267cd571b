/** The environment variables of a request, sealed to its stack: they may hold passwords and tokens. */
import type { Envelope } from './envelope.ts';
import { identityAt } from './sealed-place.ts';

export function sealEnv(envelope: Envelope, stackId: string, env: Record<string, string>): string | null {
  return Object.keys(env).length === 0
    ? null
    : envelope.seal(JSON.stringify(env), identityAt('instances.request.envSealed', stackId));
}

/** @param sealed null: none. Throws SealError where it was sealed to another stack. */
export function openEnv(envelope: Envelope, stackId: string, sealed: string | null): Record<string, string> {
  return sealed === null
    ? {}
    : (JSON.parse(envelope.open(sealed, identityAt('instances.request.envSealed', stackId))) as Record<string, string>);
}
