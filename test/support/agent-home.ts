/** Where agents of hosts report in tests: the real install script and the real agent, and a host runtime that lets hosts join it. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createBundleCache } from '../../agent/bundle-cache.ts';
import { renderInstallScript } from '../../api/install-script.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import type { HostRuntime, JoiningHost } from '../../providers-dynamic/host-runtime.ts';

export interface AgentHome {
  url: string;
  /** Nodes that have registered, by the token that they showed. */
  registered: Map<string, string>;
  heartbeats: number;
  /** Everything that hosts were told to be secret. */
  secrets: string[];
  runtime(change?: Partial<RuntimeScript>): HostRuntime & RuntimeScript;
  close(): Promise<void>;
}

export interface RuntimeScript {
  privateKey: string;
  nodeId: string;
  isStandalone: boolean;
  /** Its agents' registrations are refused. */
  isDeaf: boolean;
  mayTakeOver: boolean;
  forgotten: boolean;
  abort: AbortController;
  /** What was told to people. */
  said: string[];
  removedHosts: string[];
  /** How often a token was asked for. */
  tokens: number;
}

export async function startAgentHome(): Promise<AgentHome> {
  const bundle = await createBundleCache(join(tmpdir(), 'muster-agent-home-cache'))();
  const tokens = new Map<string, RuntimeScript>();
  let serial = 0;
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    const credential = String(request.headers['x-agent-api-key'] ?? '');
    const json = (status: number, body: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    };
    request.resume().on('end', () => {
      if (path.endsWith('/nodes/install.sh')) return void response.end(renderInstallScript(bundle.sha256, {}));
      if (path.endsWith('/nodes/agent.mjs')) return void response.end(bundle.text);
      if (path.endsWith('/nodes/register')) {
        const owner = tokens.get(credential);
        if (owner === undefined || owner.isDeaf) return json(401, { code: 'unauthenticated', detail: 'no' });
        const { nodeId } = owner;
        home.registered.set(credential, nodeId);
        return json(201, { nodeId, key: `ma_${nodeId}${'k'.repeat(30)}`, intervalMs: 1_000 });
      }
      home.heartbeats++;
      json(200, { accepted: true, intervalMs: 1_000 });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const home: AgentHome = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    registered: new Map(),
    heartbeats: 0,
    secrets: [],
    runtime(change = {}) {
      const script: RuntimeScript = {
        privateKey: '',
        nodeId: 'nod_aaaaaaaaaaaaaaaa',
        isStandalone: false,
        isDeaf: false,
        mayTakeOver: false,
        forgotten: false,
        abort: new AbortController(),
        said: [],
        removedHosts: [],
        tokens: 0,
        ...change,
      };
      home.secrets.push(script.privateKey);
      return Object.assign(script, {
        sshPrivateKey: () => Promise.resolve(script.privateKey),
        join: async (_host: JoiningHost, ask: { wantsToken: boolean; carries: string | null }) => {
          if (script.isStandalone) return null;
          const { nodeId, mayTakeOver } = script;
          if (!ask.wantsToken || ask.carries === nodeId) return { url: home.url, nodeId, token: null, mayTakeOver };
          const token = `mn_${'t'.repeat(40)}${++serial}`;
          script.tokens++;
          tokens.set(token, script);
          home.secrets.push(token);
          return { url: home.url, nodeId, token, mayTakeOver };
        },
        async installScript(url: string) {
          const response = await fetch(`${url}/api/v1/nodes/install.sh`).catch(() => null);
          if (!response?.ok) throw new ProviderError('retryable', 'the control plane is away');
          return response.text();
        },
        joinStandby: () => Promise.resolve(null),
        mayForget: () => Promise.resolve(script.forgotten),
        removed: (host: string) => Promise.resolve(void script.removedHosts.push(host)),
        signal: () => script.abort.signal,
        progress: (_host: string, message: string) => void script.said.push(message),
      } satisfies HostRuntime);
    },
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
  return home;
}
