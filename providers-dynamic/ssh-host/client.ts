/** What is done on a host of ours: looking at it, and putting our agent on it and off it again. Decides nothing. */
import { ProviderError } from '../../domain/provider-error.ts';
import type { HostRuntime } from '../host-runtime.ts';
import { connectHost, describe, type HostConnection, type HostTarget, type HostTimings } from './connection.ts';
import {
  agentScript,
  FACTS_SCRIPT,
  installScript,
  parseAgent,
  parseFacts,
  parseLeft,
  uninstallScript,
  type AgentInstallation,
  type AgentOnHost,
  type HostFacts,
} from './wire.ts';

export interface HostClient {
  readonly connection: HostConnection;
  /** Needs no root. */
  facts(): Promise<HostFacts>;
  agent(dir: string): Promise<AgentOnHost>;
  /** Idempotent; one that was cut off is finished. Returns when the agent has registered. */
  install(installation: AgentInstallation): Promise<void>;
  /** Idempotent. Returns only when nothing of ours is left; files of others stay. */
  uninstall(dir: string, script: string): Promise<void>;
}

/** Throws what connectHost and the work throw; the connection ends with the work. */
export async function withHost<T>(
  runtime: HostRuntime,
  target: HostTarget & { credentialRef: string },
  timings: HostTimings,
  work: (client: HostClient) => Promise<T>,
): Promise<T> {
  const privateKey = await runtime.sshPrivateKey(target.credentialRef);
  const connection = await connectHost(target, privateKey, timings, runtime.signal());
  try {
    return await work(createHostClient(connection, target));
  } finally {
    connection.close();
  }
}

function createHostClient(connection: HostConnection, target: HostTarget): HostClient {
  const name = describe(target);
  return {
    connection,
    async facts() {
      const { stdout } = await connection.run(FACTS_SCRIPT, { asRoot: false, isLook: true });
      return parseFacts(stdout);
    },
    async agent(dir) {
      const { stdout } = await connection.run(agentScript(dir), { asRoot: true, isLook: true });
      return parseAgent(stdout);
    },
    async install(installation) {
      const { code, stderr } = await connection.run(installScript(installation), { asRoot: true, isLook: false });
      if (code === 0) return;
      // 75: it was started and the control plane did not hear of it.
      const kind = code === 75 ? 'retryable' : 'invalid';
      throw new ProviderError(kind, `the agent could not be installed on ${name}: ${lastLine(stderr, code)}`);
    },
    async uninstall(dir, script) {
      const outcome = await connection.run(uninstallScript(dir, script), { asRoot: true, isLook: false });
      const left = parseLeft(outcome.stdout);
      if (outcome.code === 0 && left?.length === 0) return;
      const why = left?.length ? `still there: ${left.join(', ')}` : lastLine(outcome.stderr, outcome.code);
      throw new ProviderError('unknown', `the agent could not be removed from ${name}: ${why}`);
    },
  };
}

export function lastLine(stderr: string, code: number): string {
  const line = stderr.trim().split('\n').at(-1)?.slice(0, 500);
  return line ? line : `it ended with ${code}`;
}
