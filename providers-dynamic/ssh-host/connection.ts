/**
 * A connection to a host of ours over SSH. The host's key is pinned: a host that shows another one gets neither our login nor a
 * command. Scripts go in through standard input, so nothing of them is in an argument list on either side.
 */
import type { Client, ClientChannel, ConnectConfig, ServerHostKeyAlgorithm } from 'ssh2';
import { ProviderError } from '../../domain/provider-error.ts';

export interface HostTarget {
  /** Name or address. */
  address: string;
  port: number;
  user: string;
  /** As `ssh-keygen -l` prints it: "SHA256:" and 43 characters. Of any of the host's keys. */
  hostKeySha256: string;
}

export interface HostTimings {
  /** Bound on reaching the host and logging in. */
  connectMs: number;
  /** A host that is silent for so long, three times, is down. */
  keepaliveMs: number;
  /** Bound on one script that only looks. */
  lookMs: number;
  /** Bound on one script that changes something: downloads take their time. */
  changeMs: number;
}

export const HOST_TIMINGS: HostTimings = { connectMs: 15_000, keepaliveMs: 5_000, lookMs: 60_000, changeMs: 600_000 };

export interface RunOptions {
  /** Through `sudo -n`, unless the user is root. */
  asRoot: boolean;
  /** Nothing is changed by it: when its end is not seen it may simply be run again. */
  isLook: boolean;
}

export interface RunOutcome {
  code: number;
  stdout: string;
  stderr: string;
}

export interface HostConnection {
  /**
   * Runs a POSIX shell script as a whole or not at all: one that arrived in part does nothing.
   * Throws ProviderError: `auth` where the user may not become root, `unknown` where the end was not seen (of a look: `retryable`),
   * `canceled`.
   */
  run(script: string, options: RunOptions): Promise<RunOutcome>;
  close(): void;
}

const MAX_OUTPUT_BYTES = 256 * 1024;
const KEEPALIVE_TRIES = 3;
const BEGIN = 'muster:begin';

/** A host has a key of each type and shows the first that we name; the pinned one may be any of them. */
const KEY_TYPES: ServerHostKeyAlgorithm[][] = [
  ['ssh-ed25519'],
  ['ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp384', 'ecdsa-sha2-nistp521'],
  ['rsa-sha2-512', 'rsa-sha2-256'],
];

/**
 * Throws ProviderError: `retryable` for a host that cannot be reached (which never means that it is gone), `invalid` for another host key
 * than the pinned one, `auth` for a login that is refused or a private key that cannot be read, `canceled`.
 */
export async function connectHost(
  target: HostTarget,
  privateKey: string,
  timings: HostTimings,
  signal: AbortSignal,
): Promise<HostConnection> {
  const shown: string[] = [];
  for (const algorithms of KEY_TYPES) {
    const attempt = await tryConnect(target, privateKey, { algorithms, timings, signal });
    if ('client' in attempt) return createConnection(attempt.client, target, timings, signal);
    if (attempt.shown !== null) shown.push(attempt.shown);
  }
  throw new ProviderError(
    'invalid',
    shown.length === 0
      ? `${describe(target)} shows no host key of a type that is trusted (Ed25519, ECDSA or RSA with SHA-2)`
      : `${describe(target)} shows another host key than the pinned ${target.hostKeySha256}: ${shown.join(', ')}. ` +
          'Nothing was sent to it. It may be another machine; pin its new key only after checking it on the machine itself',
  );
}

/** For people: never with a secret. */
export function describe({ user, address, port }: HostTarget): string {
  return `${user}@${address}:${port}`;
}

interface Attempt {
  algorithms: ServerHostKeyAlgorithm[];
  timings: HostTimings;
  signal: AbortSignal;
}

/** `shown`: the host's key is another one; null: it has none of these types. */
async function tryConnect(
  target: HostTarget,
  privateKey: string,
  { algorithms, timings, signal }: Attempt,
): Promise<{ client: Client } | { shown: string | null }> {
  const { default: ssh2 } = await import('ssh2'); // 19 MB that a child at rest does without
  const key = ssh2.utils.parseKey(privateKey);
  if (key instanceof Error)
    throw new ProviderError('auth', `the SSH private key for ${describe(target)} cannot be read`);
  const client = new ssh2.Client();
  return new Promise((resolve, reject) => {
    let shown: string | null = null;
    const finish = (settle: () => void): void => {
      signal.removeEventListener('abort', onAbort);
      settle();
    };
    const fail = (error: ProviderError): void =>
      finish(() => {
        client.destroy();
        reject(error);
      });
    const onAbort = (): void => fail(new ProviderError('canceled', `canceled while connecting to ${describe(target)}`));
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    const config: ConnectConfig = {
      host: target.address,
      port: target.port,
      username: target.user,
      privateKey,
      readyTimeout: timings.connectMs,
      keepaliveInterval: timings.keepaliveMs,
      keepaliveCountMax: KEEPALIVE_TRIES,
      algorithms: { serverHostKey: algorithms },
      hostHash: 'sha256',
      hostVerifier: (hash: string) => {
        const fingerprint = `SHA256:${Buffer.from(hash, 'hex').toString('base64').replace(/=+$/, '')}`;
        if (fingerprint === target.hostKeySha256) return true;
        shown = fingerprint;
        return false;
      },
    };
    client
      // The handshake is many small writes, each of which would wait for the other side's delayed acknowledgement.
      .on('connect', () => client.setNoDelay(true))
      .on('ready', () => finish(() => resolve({ client })))
      .on('error', (error) => {
        if (shown !== null) return finish(() => resolve({ shown }));
        if (/no matching (host key|server host key)/i.test(error.message))
          return finish(() => resolve({ shown: null }));
        fail(connectError(target, error));
      })
      .on('close', () => fail(connectError(target, new Error('the connection was closed'))))
      .connect(config);
  });
}

/** All reading of ssh2's errors. */
function connectError(target: HostTarget, error: Error & { level?: string; code?: string }): ProviderError {
  if (error.level === 'client-authentication') {
    return new ProviderError('auth', `${describe(target)} does not let this key in`, { cause: error });
  }
  return new ProviderError('retryable', `${describe(target)} cannot be reached: ${error.code ?? error.message}`, {
    cause: error,
  });
}

function createConnection(
  client: Client,
  target: HostTarget,
  timings: HostTimings,
  signal: AbortSignal,
): HostConnection {
  let trouble: string | null = null;
  const lost = new AbortController();
  const onTrouble = (reason: string): void => {
    trouble ??= reason;
    lost.abort();
  };
  client.removeAllListeners('error').removeAllListeners('close');
  client.on('error', (error) => onTrouble(error.message)).on('close', () => onTrouble('the connection was closed'));
  return {
    async run(script, options) {
      const command = options.asRoot && target.user !== 'root' ? 'sudo -n sh -s' : 'sh -s';
      const bound = options.isLook ? timings.lookMs : timings.changeMs;
      const outcome = await new Promise<RunOutcome>((resolve, reject) => {
        const stops = AbortSignal.any([lost.signal, signal]);
        const timer = setTimeout(() => give(`no end within ${bound / 1000} s`), bound);
        const settle = (act: () => void): void => {
          clearTimeout(timer);
          stops.removeEventListener('abort', onStop);
          act();
        };
        function give(reason: string): void {
          settle(() => {
            client.destroy();
            const kind = options.isLook ? 'retryable' : 'unknown';
            reject(new ProviderError(kind, `${describe(target)} went away in the middle: ${reason}`));
          });
        }
        function onStop(): void {
          if (trouble !== null) return give(trouble);
          settle(() => {
            client.destroy();
            reject(new ProviderError('canceled', `canceled while working on ${describe(target)}`));
          });
        }
        if (stops.aborted) return onStop();
        stops.addEventListener('abort', onStop, { once: true });
        client.exec(command, (error, stream) => {
          if (error) return give(error.message);
          collect(stream, (code, stdout, stderr) => {
            if (code === null) return give('the shell was ended');
            settle(() => resolve({ code, stdout, stderr }));
          });
          stream.end(wholeOrNothing(script));
        });
      });
      return withoutMark(outcome, target, command);
    },
    close() {
      client.removeAllListeners('close');
      client.end();
    },
  };
}

function collect(stream: ClientChannel, done: (code: number | null, stdout: string, stderr: string) => void): void {
  let stdout = '';
  let stderr = '';
  stream.on('data', (data: Buffer) => (stdout = (stdout + data.toString()).slice(0, MAX_OUTPUT_BYTES)));
  stream.stderr.on('data', (data: Buffer) => (stderr = (stderr + data.toString()).slice(0, MAX_OUTPUT_BYTES)));
  // One that was refused by sudo does not read what we write.
  stream.on('error', () => {});
  stream.on('close', (code: number | null | undefined) => done(code ?? null, stdout, stderr));
}

/** A shell runs what it reads line by line; a function it runs only when all of it is there. What the script calls must not eat its text. */
function wholeOrNothing(script: string): string {
  return `muster_main() {\necho ${BEGIN}\n${script}\n}\nmuster_main </dev/null\n`;
}

/** Where the mark is missing, the shell itself did not start. */
function withoutMark(outcome: RunOutcome, target: HostTarget, command: string): RunOutcome {
  const at = outcome.stdout.indexOf(`${BEGIN}\n`);
  if (at >= 0) return { ...outcome, stdout: outcome.stdout.slice(at + BEGIN.length + 1) };
  const said = outcome.stderr.trim().split('\n')[0] ?? '';
  const why = said === '' ? `it ended with ${outcome.code}` : said;
  throw command.startsWith('sudo')
    ? new ProviderError('auth', `${target.user} may not become root on ${target.address} without a password: ${why}`)
    : new ProviderError('unbelievable', `${describe(target)} runs no POSIX shell: ${why}`);
}
