/** Reading a request's body: JSON of at most 1 MB, read only after the caller may send one. */
import express, { type Request, type Response } from 'express';
import { MusterError } from '../domain/error-table.ts';

export const MAX_BODY_BYTES = 1_000_000;

const parseJson = express.json({ limit: MAX_BODY_BYTES, strict: false, type: () => true });

/**
 * The parsed body; undefined where there is none. Throws MusterError `unsupported_media_type`, `body_too_large` or
 * `malformed_request`.
 */
export async function readBody(request: Request, response: Response): Promise<unknown> {
  if (!hasBody(request)) return undefined;
  const type = (request.headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
  if (type !== 'application/json' && !/^application\/[\w.-]+\+json$/.test(type)) {
    const got = type === '' ? 'none' : `"${type.slice(0, 80)}"`;
    throw new MusterError('unsupported_media_type', `the content type must be application/json, got ${got}`);
  }
  await new Promise<void>((resolve, reject) => {
    parseJson(request, response, (error?: unknown) => (error === undefined ? resolve() : reject(describe(error))));
  });
  return request.body as unknown;
}

function hasBody(request: Request): boolean {
  const length = request.headers['content-length'];
  return request.headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0');
}

function describe(error: unknown): Error {
  const { type, message } = error as { type?: string; message?: string };
  if (type === 'entity.too.large') {
    return new MusterError('body_too_large', `the body is larger than ${MAX_BODY_BYTES} bytes`, {
      facts: { maxBytes: MAX_BODY_BYTES },
    });
  }
  if (type === 'entity.parse.failed') {
    // The parser's message quotes the body, which may hold secrets: only the place is told.
    const place = /position \d+(?: \(line \d+ column \d+\))?/.exec(message ?? '')?.[0];
    return new MusterError('malformed_request', `the body is not valid JSON${place ? ` at ${place}` : ''}`);
  }
  if (type === 'charset.unsupported' || type === 'encoding.unsupported') {
    return new MusterError('unsupported_media_type', 'the body must be UTF-8, gzip, deflate or br at most');
  }
  if (type === 'request.aborted' || type === 'request.size.invalid') {
    return new MusterError('malformed_request', 'the body ended early');
  }
  return error as Error;
}
