/** Journals as the engine's CLI sends them, batch by batch with its pauses: recorded between it and the API, to be sent again by others. */
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface RecordedBatch {
  /** Between the answer to the one before (or the update's start) and this one. */
  pauseMs: number;
  /** As it was sent: gzip. */
  body: Buffer;
}

export interface RecordedJournal {
  /** The state that it begins with, as exported. */
  base: string;
  batches: RecordedBatch[];
}

export interface JournalRecorder {
  url: string;
  /** Those that were started since the last call. */
  take(): RecordedJournal[];
  close(): void;
}

interface Recording extends RecordedJournal {
  answeredAt: number;
}

/** @param target the API's URL, @param exportOf the state of the stack whose path is given */
export async function startJournalRecorder(
  target: string,
  exportOf: (stackPath: string) => Promise<string>,
): Promise<JournalRecorder> {
  const recordings = new Map<string, Recording>();
  const server = createServer((near, answer) => {
    void (async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of near as AsyncIterable<Buffer>) chunks.push(chunk);
      const body = Buffer.concat(chunks);
      const { method = 'GET', url = '/', headers } = near;
      const [, stackPath = '', updateId = '', part] =
        /^\/api\/(stacks\/[^/]+\/[^/]+\/[^/]+)\/update\/([^/]+)(?:\/(\w+))?/.exec(url) ?? [];
      const isStart = method === 'POST' && updateId !== '' && part === undefined;
      if (isStart) recordings.set(updateId, { base: await exportOf(stackPath), batches: [], answeredAt: 0 });
      const recording = recordings.get(updateId);
      if (part === 'journalentries')
        recording?.batches.push({ pauseMs: performance.now() - recording.answeredAt, body });
      const far = request(`${target}${url}`, { method, headers }, (reply) => {
        answer.writeHead(reply.statusCode ?? 502, reply.headers);
        reply.pipe(answer);
        reply.once('end', () => {
          if (recording && (isStart || part === 'journalentries')) recording.answeredAt = performance.now();
        });
      });
      far.on('error', () => answer.destroy());
      far.end(body);
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    take() {
      const taken = [...recordings.values()].map(({ base, batches }) => ({ base, batches }));
      recordings.clear();
      return taken;
    },
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}
