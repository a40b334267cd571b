/** Requests to a state service as the engine's CLI sends them, and journals of one resource after the other. */
import { once } from 'node:events';
import { connect } from 'node:net';

export interface StateReply {
  status: number;
  /** Read freely: a test that reads what is not there fails. */
  // oxlint-disable-next-line typescript/no-explicit-any
  body: any;
}

export interface Sent {
  body?: unknown;
  /** Sent as it is, instead of `body`. */
  raw?: Buffer | string;
  encoding?: string;
  /** Of an update: sent instead of the caller's own. */
  lease?: string;
}

export interface StateCaller {
  send(method: string, path: string, sent?: Sent): Promise<StateReply>;
  /** Makes an update and starts it. */
  begin(stackPath: string, kind?: string): Promise<{ id: string; path: string; lease: string; started: StateReply }>;
}

/** @param key of the API, or of a run */
export function createStateCaller(url: string, key: string): StateCaller {
  const send: StateCaller['send'] = async (method, path, { body, raw, encoding, lease } = {}) => {
    const payload = raw ?? (body === undefined ? undefined : JSON.stringify(body));
    const reply = await fetch(`${url}/api/${path}`, {
      method,
      headers: {
        accept: 'application/vnd.pulumi+9',
        'user-agent': 'pulumi-cli/1 (v3.259.0; linux; cmd=up)',
        'content-type': 'application/json',
        ...(encoding === undefined ? {} : { 'content-encoding': encoding }),
        authorization: lease === undefined ? `token ${key}` : `update-token ${lease}`,
      },
      ...(payload === undefined ? {} : { body: typeof payload === 'string' ? payload : new Uint8Array(payload) }),
    });
    const text = await reply.text();
    return { status: reply.status, body: text === '' ? null : JSON.parse(text) };
  };
  return {
    send,
    async begin(stackPath, kind = 'update') {
      const made = await send('POST', `${stackPath}/${kind}`, { body: { options: {}, config: {}, metadata: {} } });
      const id = made.body['updateID'] as string;
      const path = `${stackPath}/update/${id}`;
      const started = await send('POST', path, { body: { journalVersion: 1 } });
      return { id, path, lease: started.body['token'] as string, started };
    },
  };
}

const TYPE = 'aws:ec2/vpc:Vpc';

function resource(name: string) {
  return { urn: `urn:pulumi:dev::proj::${TYPE}::${name}`, type: TYPE, custom: true, inputs: { tag: name } };
}

/** The begin and the end of a create: entries `2n - 1` and `2n` of the journal. */
export function createEntries(n: number): object[] {
  const common = { version: 1, operationID: n, removeOld: null, removeNew: null };
  return [
    { ...common, kind: 0, sequenceID: 2 * n - 1, operation: { resource: resource(`r${n}`), type: 'creating' } },
    { ...common, kind: 1, sequenceID: 2 * n, state: { ...resource(`r${n}`), id: `id-${n}` } },
  ];
}

/**
 * Sends bytes on a connection of their own and reads the JSON that is answered, also before they were all sent. @returns the
 * answer's head and body
 */
export function exchange(url: string, head: string, chunks: Iterable<Buffer>): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  const gone = new AbortController();
  return new Promise((resolve, reject) => {
    let answer = '';
    socket.on('data', (data: Buffer) => {
      answer += data.toString();
      if (answer.endsWith('}')) socket.destroy();
    });
    socket.once('close', () => {
      gone.abort();
      resolve(answer);
    });
    socket.once('error', (error) => (answer === '' ? reject(error) : resolve(answer)));
    socket.once('connect', () => {
      socket.write(head);
      void (async () => {
        for (const chunk of chunks) {
          if (answer !== '' || socket.destroyed) break;
          if (!socket.write(chunk)) await once(socket, 'drain', { signal: gone.signal }).catch(() => {});
        }
      })();
    });
  });
}
