/** The environment variables of a request, sealed to its stack: they may hold passwords and tokens. */
import type { Envelope } from './envelope.ts';

export function sealEnv(envelope: Envelope, stackId: string, env: Record<string, string>): string | null {
  return Object.keys(env).length === 0 ? null : envelope.seal(JSON.stringify(env), identityOf(stackId));
}

/** @param sealed null: none. Throws SealError where it was sealed to another stack. */
export function openEnv(envelope: Envelope, stackId: string, sealed: string | null): Record<string, string> {
  return sealed === null ? {} : (JSON.parse(envelope.open(sealed, identityOf(stackId))) as Record<string, string>);
}

function identityOf(stackId: string): string {
  return `instances.request.env/${stackId}`;
}
