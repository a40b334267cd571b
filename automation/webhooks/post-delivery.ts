/**
 * Posting to an address that somebody else chose: one request, no redirects, bounded in time and in what is read, and only to addresses
 * that may be reached. A name is looked up once and the connection goes to the very address that was checked, so that a name which
 * answers otherwise the second time gains nothing.
 */
import { lookup as lookUp } from 'node:dns';
import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { isPublicAddress } from '../../domain/public-address.ts';

export interface Posted {
  status: number;
  /** In milliseconds; null where the receiver asked for none. */
  retryAfterMs: number | null;
  /** The beginning of the answer, for the log. */
  excerpt: string;
}

export interface PostOptions {
  headers: Record<string, string>;
  body: string;
  /** `public`: only addresses of the internet at large, and only https. */
  targets: 'public' | 'any';
  timeoutMs: number;
  signal: AbortSignal;
}

/** The request was not sent, or got no answer; the message is for the webhook's owner. */
export class PostError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'PostError';
  }
}

/** What is kept of an answer, and where reading it ends. */
const EXCERPT_BYTES = 1_024;

/** Throws PostError. */
export async function postDelivery(url: string, options: PostOptions): Promise<Posted> {
  const target = new URL(url);
  if (options.targets === 'public' && target.protocol !== 'https:') throw new PostError('only https is allowed');
  const host = target.hostname.replace(/^\[|\]$/g, '');
  // The platform looks up no literal address, so it is checked here.
  const refusal = isIP(host) === 0 ? null : findRefusal(host, [{ address: host }], options.targets);
  if (refusal !== null) throw refusal;
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(options.timeoutMs)]);
  return new Promise<Posted>((resolve, reject) => {
    const fail = (error: Error) => reject(describe(error, signal, options));
    const send = target.protocol === 'https:' ? requestHttps : requestHttp;
    const request = send(target, {
      method: 'POST',
      // A connection of its own: a kept one would go to an address that was checked for another name.
      agent: false,
      headers: { ...options.headers, 'content-length': String(Buffer.byteLength(options.body)) },
      lookup: checkedLookup(options.targets),
      signal,
    });
    request.on('error', fail);
    request.on('response', (response) => {
      const chunks: Buffer[] = [];
      let length = 0;
      const finish = () => {
        resolve({
          status: response.statusCode ?? 0,
          retryAfterMs: readRetryAfter(response.headers['retry-after']),
          excerpt: printable(Buffer.concat(chunks).subarray(0, EXCERPT_BYTES).toString('utf8')),
        });
        request.destroy();
      };
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        length += chunk.length;
        if (length >= EXCERPT_BYTES) finish();
      });
      response.on('end', finish);
      response.on('error', fail);
    });
    request.end(options.body);
  });
}

function checkedLookup(targets: PostOptions['targets']): LookupFunction {
  return (hostname, options, callback) => {
    const family = options.family === 4 || options.family === 6 ? { family: options.family } : {};
    lookUp(hostname, { all: true, ...family }, (error, found) => {
      const refusal = error ?? findRefusal(hostname, found, targets);
      const [first] = found ?? [];
      if (refusal !== null) callback(refusal, '', 0);
      else if (options.all === true) callback(null, found);
      else callback(null, first?.address ?? '', first?.family);
    });
  };
}

/** One address that is not allowed among many is enough to refuse the name. null: it may be reached. */
function findRefusal(host: string, found: { address: string }[], targets: PostOptions['targets']): PostError | null {
  if (found.length === 0) return new PostError(`${host} has no address`);
  if (targets === 'any') return null;
  const refused = found.find(({ address }) => !isPublicAddress(address))?.address;
  if (refused === undefined) return null;
  return new PostError(`${host === refused ? '' : `${host} leads to `}${refused}, which is not a public address`);
}

function describe(error: Error, signal: AbortSignal, options: PostOptions): PostError {
  if (error instanceof PostError) return error;
  if (options.signal.aborted) return new PostError('we were stopped before the answer came');
  if (signal.aborted) return new PostError(`no answer within ${options.timeoutMs / 1000} s`);
  const code = (error as { code?: string }).code;
  return new PostError(code === undefined ? error.message : `${code}: ${error.message}`);
}

/** Seconds, or a date. */
function readRetryAfter(header: string | undefined): number | null {
  if (header === undefined) return null;
  const ms = /^\d{1,9}$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isFinite(ms) && ms > 0 ? ms : null;
}

function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- these are what is taken out; Postgres takes no NUL
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '');
}
