/** Reading what the CLI sends and answering it: JSON, gzip either way, nothing unbounded. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import type { z } from 'zod';
import { badRequest, StateError } from './state-error.ts';

const inflate = promisify(gunzip);
const deflate = promisify(gzip);

/** As sent, and as unpacked: the CLI halves a batch that is told to be too large. A state of some ten thousand resources is below. */
export const MAX_WIRE_BYTES = 64 * 1024 * 1024;
export const MAX_BODY_BYTES = 256 * 1024 * 1024;
/** Smaller answers cost more to pack than to send. */
const MIN_PACKED_BYTES = 16 * 1024;

/** Throws StateError 400 or 413. An absent body is `{}`. */
export async function readJson<Schema extends z.ZodType>(
  request: IncomingMessage,
  schema: Schema,
  maxBytes = MAX_BODY_BYTES,
): Promise<z.output<Schema>> {
  const bytes = await unpack(request, await readBytes(request), maxBytes);
  let value: unknown;
  try {
    value = bytes.length === 0 ? {} : JSON.parse(bytes.toString('utf8'));
  } catch {
    throw badRequest('the body is not JSON');
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw badRequest(`${issue?.path.join('.') || 'the body'}: ${issue?.message ?? 'is not as expected'}`);
}

export async function sendJson(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  body: unknown,
): Promise<void> {
  let bytes = Buffer.from(JSON.stringify(body));
  response.setHeader('content-type', 'application/json');
  if (bytes.length >= MIN_PACKED_BYTES && String(request.headers['accept-encoding'] ?? '').includes('gzip')) {
    bytes = await deflate(bytes, { level: 1 });
    response.setHeader('content-encoding', 'gzip');
  }
  response.setHeader('content-length', bytes.length);
  response.writeHead(status);
  response.end(request.method === 'HEAD' ? undefined : bytes);
}

async function readBytes(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_WIRE_BYTES) throw tooLarge(MAX_WIRE_BYTES);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function unpack(request: IncomingMessage, bytes: Buffer, maxBytes: number): Promise<Buffer> {
  const encoding = request.headers['content-encoding'] ?? 'identity';
  if (encoding === 'identity') {
    if (bytes.length > maxBytes) throw tooLarge(maxBytes);
    return bytes;
  }
  if (encoding !== 'gzip')
    throw new StateError(415, `Unsupported Media Type: content-encoding ${encoding}; gzip or none`);
  try {
    return await inflate(bytes, { maxOutputLength: maxBytes });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(maxBytes);
    throw badRequest('the body is not gzip');
  }
}

function tooLarge(maxBytes: number): StateError {
  return new StateError(413, `Payload Too Large: at most ${maxBytes} bytes`);
}
