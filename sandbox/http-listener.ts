/**
 * The little HTTP that all servers of the sandbox share: listen on loopback, read a body, send a reply.
 * node:http without a framework: a simulated vendor answers thousands of requests in a burst beside the program under test.
 */
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface HttpReply {
  status: number;
  /** A string goes out as it is; anything else as JSON. */
  body: unknown;
  headers?: Record<string, string>;
}

export interface HttpListener {
  readonly port: number;
  readonly url: string;
  close(): Promise<void>;
}

const HOST = '127.0.0.1';
/** Larger than any body a vendor documents. */
const MAX_BODY_BYTES = 1024 * 1024;
/** A predecessor that was just told to go may hold its port for a moment. */
const PORT_RETRIES = 15;
const PORT_RETRY_MS = 100;
/** Bursts of hundreds of clients connect at once. */
const LISTEN_BACKLOG = 1024;

export class PortInUseError extends Error {
  readonly port: number;
  constructor(port: number) {
    super(`port ${port} on ${HOST} is in use`);
    this.name = 'PortInUseError';
    this.port = port;
  }
}

/** The port is taken and the state behind it is still being read. */
export class NotReadyError extends Error {
  constructor() {
    super('the sandbox is starting');
    this.name = 'NotReadyError';
  }
}

/** Listens on loopback; port 0 takes a free one. Throws PortInUseError. */
export async function listenHttp(port: number, listener: RequestListener): Promise<HttpListener> {
  const server = createServer({ keepAliveTimeout: 60_000 }, listener);
  for (let attempt = 0; ; attempt++) {
    try {
      await listenOnce(server, port);
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
      if (attempt >= PORT_RETRIES) throw new PortInUseError(port);
      await new Promise((resolve) => setTimeout(resolve, PORT_RETRY_MS));
    }
  }
  const bound = (server.address() as AddressInfo).port;
  return {
    port: bound,
    url: `http://${HOST}:${bound}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listenOnce(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    function settle(done: () => void): void {
      server.off('error', onError);
      server.off('listening', onListening);
      done();
    }
    const onError = (error: Error): void => settle(() => reject(error));
    const onListening = (): void => settle(resolve);
    server.on('error', onError);
    server.on('listening', onListening);
    server.listen(port, HOST, LISTEN_BACKLOG);
  });
}

/** The whole body as text; null when it is larger than any vendor accepts. */
export async function readBody(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size <= MAX_BODY_BYTES) chunks.push(chunk as Buffer);
  }
  return size > MAX_BODY_BYTES ? null : Buffer.concat(chunks).toString('utf8');
}

/** The answer to a request that failed inside; whatever is not expected is told on standard error. */
export function toErrorReply(error: unknown): HttpReply {
  if (error instanceof NotReadyError) return { status: 503, body: error.message };
  process.stderr.write(`sandbox: ${error instanceof Error ? error.stack : String(error)}\n`);
  return { status: 500, body: 'The sandbox itself failed; see its standard error.' };
}

export function sendReply(response: ServerResponse, reply: HttpReply): void {
  if (response.destroyed || response.headersSent) return;
  const isText = typeof reply.body === 'string';
  const text = isText ? (reply.body as string) : JSON.stringify(reply.body);
  response.writeHead(reply.status, {
    'content-type': isText ? 'text/plain; charset=utf-8' : 'application/json',
    'content-length': Buffer.byteLength(text),
    ...reply.headers,
  });
  response.end(text);
}
