/** Reading what the CLI sends and answering it: JSON, gzip either way, nothing unbounded. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { promisify } from 'node:util';
import { gunzip, gunzipSync, gzip } from 'node:zlib';
import type { z } from 'zod';
import { badRequest, StateError } from './state-error.ts';

const inflate = promisify(gunzip);
const deflate = promisify(gzip);

/** As sent, and as unpacked: the CLI halves a batch that is told to be too large. A state of some ten thousand resources is below. */
export const MAX_WIRE_BYTES = 64 * 1024 * 1024;
export const MAX_BODY_BYTES = 256 * 1024 * 1024;
/**
 * As sent, of what is unpacked at once: a thread of its own takes three times the processor of it. The most that so much unpacks to (8 MB)
 * is unpacked sooner than it is read.
 */
const MAX_UNPACKED_AT_ONCE = 8 * 1024;
/** Of a gzip's end (RFC 1952). */
const LENGTH_BYTES = 4;
/** zlib's least. */
const SMALLEST_CHUNK = 64;
const LARGEST_CHUNK = 64 * 1024;
/** Smaller answers cost more to pack than to send. */
const MIN_PACKED_BYTES = 16 * 1024;

/** Far more than any resource's properties, far less than what a replay of the journal could choke on. */
const MAX_DEPTH = 500;

/** Throws StateError 400 or 413. An absent body is `{}`. May be asked again: the request is read once. */
export type BodyReader = <Schema extends z.ZodType>(schema: Schema, maxBytes?: number) => Promise<z.output<Schema>>;

export function createBodyReader(request: IncomingMessage): BodyReader {
  let read: Promise<unknown> | null = null;
  return async (schema, maxBytes = MAX_BODY_BYTES) => {
    const parsed = schema.safeParse(await (read ??= readValue(request, maxBytes)));
    if (parsed.success) return parsed.data;
    const [issue] = parsed.error.issues;
    throw badRequest(`${issue?.path.join('.') || 'the body'}: ${issue?.message ?? 'is not as expected'}`);
  };
}

async function readValue(request: IncomingMessage, maxBytes: number): Promise<unknown> {
  const bytes = await unpack(request, await readBytes(request), maxBytes);
  if (bytes.length === 0) return {};
  if (isDeeperThan(bytes, MAX_DEPTH)) throw badRequest(`the body is nested more than ${MAX_DEPTH} deep`);
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    throw badRequest('the body is not JSON');
  }
}

/** Of JSON text; of other text it may say either. */
function isDeeperThan(bytes: Buffer, limit: number): boolean {
  let depth = 0;
  let isInString = false;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (isInString) {
      if (byte === BACKSLASH) at++;
      else if (byte === QUOTE) isInString = false;
    } else if (byte === QUOTE) isInString = true;
    else if (byte === BRACE || byte === BRACKET) {
      if (++depth > limit) return true;
    } else if (byte === BRACE_END || byte === BRACKET_END) depth--;
  }
  return false;
}

const [QUOTE, BACKSLASH, BRACE, BRACE_END, BRACKET, BRACKET_END] = Buffer.from('"\\{}[]');

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
  try {
    // Whoever sends too much is told so: a connection that was cut would be tried again.
    const parts: AsyncIterable<Buffer> = request.iterator({ destroyOnReturn: false });
    for await (const chunk of parts) {
      length += chunk.length;
      if (length > MAX_WIRE_BYTES) break;
      chunks.push(chunk);
    }
  } catch {
    throw badRequest('the body ended too early');
  }
  if (length > MAX_WIRE_BYTES) throw tooLarge(MAX_WIRE_BYTES);
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
    const limits = { maxOutputLength: maxBytes };
    return bytes.length <= MAX_UNPACKED_AT_ONCE
      ? gunzipSync(bytes, { ...limits, chunkSize: chunkSizeOf(bytes) })
      : await inflate(bytes, limits);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(maxBytes);
    throw badRequest('the body is not gzip');
  }
}

/** One chunk for all of it, where the length that its sender put at its end is true: most bodies are smaller than the usual chunk. */
function chunkSizeOf(packed: Buffer): number {
  const length = packed.length < LENGTH_BYTES ? 0 : packed.readUInt32LE(packed.length - LENGTH_BYTES);
  return Math.min(Math.max(length + 1, SMALLEST_CHUNK), LARGEST_CHUNK);
}

function tooLarge(maxBytes: number): StateError {
  return new StateError(413, `Payload Too Large: at most ${maxBytes} bytes`);
}
