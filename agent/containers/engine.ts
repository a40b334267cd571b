/**
 * The container engine of the node, through the Docker Engine API (Docker's, or Podman's of the same form) on its unix socket: the few calls
 * that the agent needs, and no `exec`. A client of its own, because the library for it takes the agent from 41 to 65 MB (decision 0019).
 */
import type { ClientRequest, IncomingMessage } from 'node:http';

/** Which both Docker since 20.10 and Podman since 4 speak. */
const API = '/v1.41';
/** Podman's own, below `/libpod/`. */
const PODMAN_API = '/v4.0.0';
const TIMEOUT_MS = 30_000;
/** Lists of some hundred containers. */
const MAX_REPLY = 8_000_000;

/** The engine's answer was no success. Its message is the engine's. */
export class EngineError extends Error {
  /** 0: it did not answer. */
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.name = 'EngineError';
    this.status = status;
  }
}

export interface EngineCall {
  body?: unknown;
  headers?: Readonly<Record<string, string>>;
  /** Without an answer's head for so long it is given up. @default 30 s */
  timeoutMs?: number;
  signal?: AbortSignal;
}

export interface Engine {
  /** The answer's JSON; null: it has none. Throws EngineError. */
  call(method: 'GET' | 'POST' | 'DELETE', path: string, call?: EngineCall): Promise<unknown>;
  /** An answer to be read as it comes: whoever has it reads or destroys it. Throws EngineError. */
  open(method: 'GET' | 'POST', path: string, call?: EngineCall): Promise<IncomingMessage>;
}

export function createEngine(socketPath: string): Engine {
  async function open(method: string, path: string, call: EngineCall = {}): Promise<IncomingMessage> {
    const response = await send(socketPath, method, `${path.startsWith('/libpod/') ? PODMAN_API : API}${path}`, call);
    const status = response.statusCode ?? 0;
    if ((status >= 200 && status < 300) || status === 304) return response;
    throw new EngineError(status, readMessage(await readText(response)) ?? `the engine answered ${status}`);
  }
  return {
    open,
    async call(method, path, call) {
      const text = await readText(await open(method, path, call));
      try {
        return text === '' ? null : (JSON.parse(text) as unknown);
      } catch {
        return null; // such as "OK"
      }
    },
  };
}

function send(socketPath: string, method: string, path: string, call: EngineCall): Promise<IncomingMessage> {
  const { request } = process.getBuiltinModule('node:http'); // not by an import: see control-plane.ts
  const payload = call.body === undefined ? null : JSON.stringify(call.body);
  const headers = {
    host: 'engine',
    ...call.headers,
    ...(payload === null ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }),
  };
  const timeoutMs = call.timeoutMs ?? TIMEOUT_MS;
  return new Promise((resolve, reject) => {
    const sent: ClientRequest = request(
      { socketPath, method, path, headers, agent: false, ...(call.signal ? { signal: call.signal } : {}) },
      (response) => {
        clearTimeout(timer);
        resolve(response);
      },
    );
    const timer = setTimeout(
      () => sent.destroy(new EngineError(0, `the engine did not answer within ${timeoutMs / 1000} s`)),
      timeoutMs,
    );
    sent.on('error', (error: Error & { code?: string }) => {
      clearTimeout(timer);
      reject(
        error instanceof EngineError
          ? error
          : new EngineError(0, `the engine does not answer (${error.code ?? error.message})`),
      );
    });
    sent.end(payload ?? undefined);
  });
}

async function readText(response: IncomingMessage): Promise<string> {
  let text = '';
  response.setEncoding('utf8');
  try {
    for await (const part of response) {
      text += String(part);
      if (text.length > MAX_REPLY) throw new EngineError(0, 'the answer of the engine is too long');
    }
  } catch (error) {
    response.destroy();
    throw error instanceof EngineError ? error : new EngineError(0, 'the answer of the engine broke off');
  }
  return text;
}

/** Docker says `message`; Podman also a `cause`, which is in its message. */
function readMessage(text: string): string | null {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    return typeof message === 'string' ? message.slice(0, 400) : null;
  } catch {
    return null;
  }
}
