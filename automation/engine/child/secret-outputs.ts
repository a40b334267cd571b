/**
 * Outputs in clear. The engine replaces secrets in its events by a mark, and `stack output --show-secrets` is another CLI process that
 * derives the key again; but the program runs in this very process, so what it resolved is taken here. It leaves by the channel only.
 */
import { output, type Output } from '@pulumi/pulumi/output.js';

export interface SecretOutputs {
  /** To be called with what the program returned. */
  take(outputs: Record<string, unknown>): void;
  /** What has been resolved; unknown values never are. */
  read(): Record<string, unknown>;
}

export function createSecretOutputs(names: readonly string[]): SecretOutputs {
  const taken: Record<string, unknown> = {};
  return {
    take(outputs) {
      for (const name of names) {
        if (name in outputs) (output(outputs[name]) as Output<unknown>).apply((value) => void (taken[name] = value));
      }
    },
    read: () => taken,
  };
}
