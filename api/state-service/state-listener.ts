/**
 * The state service on a port of its own, on loopback, for the engines of this process: they come with run tokens and need no API. The API
 * offers the same service to people on its own port.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createRunTokens, type RunTokens } from './state-principal.ts';
import { createStateService, type StateServiceOptions } from './state-service.ts';

export interface StateListener {
  url: string;
  runTokens: RunTokens;
  close(): Promise<void>;
}

/** Above the CLI's pause between two requests of a long update (187 s at most), so that it keeps its connection. */
const KEEP_ALIVE_MS = 240_000;

/** @param port @default any free one */
export async function openStateListener(
  options: Omit<StateServiceOptions, 'authenticator' | 'runTokens'>,
  port = 0,
): Promise<StateListener> {
  const runTokens = createRunTokens();
  const service = createStateService({ ...options, authenticator: null, runTokens });
  const server = createServer((request, response) => void service(request, response));
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  server.unref();
  const { port: bound } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${bound}`, runTokens, close: () => closeServer(server) };
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
