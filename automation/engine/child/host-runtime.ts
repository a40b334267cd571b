/** The host runtime of an operation child: keys, tokens and decisions are the worker's to give; the install script is the API's. */
import { INSTALL_PATH } from '../../../domain/agent-start.ts';
import { ProviderError } from '../../../domain/provider-error.ts';
import type { HostRuntime } from '../../../providers-dynamic/host-runtime.ts';
import type { RunContext } from './run.ts';

const SCRIPT_MS = 15_000;
const MAX_SCRIPT_CHARS = 100_000;

export function createChildHostRuntime({ request, ask, send }: RunContext, signal: AbortSignal): HostRuntime {
  return {
    sshPrivateKey: async (credentialRef) => (await ask('sshKey', { credentialRef }, signal)).privateKey,
    join: (host, { wantsToken, carries }) => ask('joinHost', { host, wantsToken, carries }, signal),
    joinStandby: () => ask('joinStandby', {}, signal),
    installScript: (url) => fetchScript(url, signal),
    mayForget: (host) => ask('mayForgetHost', { host }, signal),
    removed: async (host) => void (await ask('hostRemoved', { host }, signal)),
    signal: () => signal,
    progress: (host, message) => send({ type: 'progress', runId: request.runId, message: `${host}: ${message}` }),
  };
}

async function fetchScript(url: string, signal: AbortSignal): Promise<string> {
  const address = `${url}${INSTALL_PATH}`;
  try {
    const response = await fetch(address, { signal: AbortSignal.any([signal, AbortSignal.timeout(SCRIPT_MS)]) });
    const text = await response.text();
    if (response.ok && text.startsWith('#!/bin/sh') && text.length < MAX_SCRIPT_CHARS) return text;
    throw new Error(`status ${response.status}`);
  } catch (error) {
    if (signal.aborted) throw new ProviderError('canceled', 'canceled while the install script was fetched');
    const why = error instanceof Error ? error.message : String(error);
    throw new ProviderError('retryable', `${address} gives no install script: ${why}`, { cause: error });
  }
}
