/** A sandbox in this process and a caller of its Vast.ai, for the tests of the sandbox itself. */
import { type Sandbox, type SandboxOptions, startSandbox } from '../../sandbox/server.ts';

export type Json = Record<string, unknown>;

export interface Answer {
  status: number;
  contentType: string;
  text: string;
  body: Json;
}

export interface Vendor extends Sandbox {
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  admin(method: string, path: string, body?: unknown): Promise<Answer>;
  search(query?: Json): Promise<Json[]>;
  /** Rents the cheapest single RTX 4090 and returns the instance id. */
  rent(extra?: Json): Promise<number>;
  read(id: number): Promise<Json>;
}

/** Explicit time, no journal, free ports: what most tests want. */
export async function startVendor(options: Partial<SandboxOptions> = {}): Promise<Vendor> {
  return asVendor(await startSandbox({ dir: null, port: 0, time: 'explicit', offers: 60, ...options }));
}

export function asVendor(sandbox: Sandbox): Vendor {
  const vendor: Vendor = {
    ...sandbox,
    call: (method, path, body, headers) => callVastai(sandbox.urls.vastai, method, path, body, headers),
    admin: (method, path, body) => send(`${sandbox.urls.control}${path}`, method, body, {}),
    async search(query = {}) {
      const answer = await vendor.call('POST', '/api/v0/bundles/', query);
      return answer.body['offers'] as Json[];
    },
    async rent(extra = {}) {
      const offers = await vendor.search({ ...SINGLE_4090, order: [['dph_total', 'asc']], limit: 1 });
      const answer = await vendor.call('PUT', `/api/v0/asks/${String(offers[0]!['id'])}/`, { ...ORDER, ...extra });
      if (answer.status !== 200) throw new Error(`not rented: ${answer.status} ${answer.text}`);
      return answer.body['new_contract'] as number;
    },
    async read(id) {
      const answer = await vendor.call('GET', `/api/v0/instances/${id}/`);
      return answer.body['instances'] as Json;
    },
  };
  return vendor;
}

export const SINGLE_4090 = { gpu_name: { eq: 'RTX 4090' }, num_gpus: { eq: 1 } };
export const ORDER = { client_id: 'me', image: 'pytorch/pytorch:2.5.1', disk: 20, label: 'test-1' };
/** Longer than any boot without a fault. */
export const BOOTED_MS = 10_000;

export function callVastai(
  url: string,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  return send(`${url}${path}`, method, body, { authorization: 'Bearer sandbox', ...headers });
}

async function send(url: string, method: string, body: unknown, headers: Record<string, string>): Promise<Answer> {
  const response = await fetch(url, {
    method,
    headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    body: body === undefined ? null : JSON.stringify(body),
    redirect: 'manual',
  });
  const text = await response.text();
  return { status: response.status, contentType: response.headers.get('content-type') ?? '', text, body: parse(text) };
}

function parse(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return {};
  }
}
