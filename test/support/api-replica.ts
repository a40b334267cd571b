/** One more API over the database of a test's API server, as a second replica is: it shares nothing else with it. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Registry } from 'prom-client';
import { createApp } from '../../api/app.ts';
import { openDatabase } from '../../db/database.ts';
import type { ApiServer } from './api-server.ts';

export interface ApiReplica {
  url: string;
  port: number;
  /** Cuts whoever waits for an answer. */
  stop(): Promise<void>;
}

/**
 * @param databaseUrl the way to the same database @default the server's own
 * @param port @default a free one
 */
export async function startApiReplica(api: ApiServer, databaseUrl = api.databaseUrl, port = 0): Promise<ApiReplica> {
  const database = openDatabase({ url: databaseUrl, applicationName: 'api-replica' });
  const app = createApp({ ...api.deps, database, metrics: new Registry() });
  const server = createServer({ keepAliveTimeout: 60_000 }, app.express);
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const { port: bound } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${bound}`,
    port: bound,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await app.close();
      await closed;
      await database.close();
    },
  };
}
