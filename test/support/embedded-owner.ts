/** A process that owns an embedded Postgres, for tests that kill it: tells its parent where the server is, and stops when told. */
import { startEmbeddedPostgres } from '../../db/embedded-postgres.ts';

const [dataDir = '', cacheDir = ''] = process.argv.slice(2);
const server = await startEmbeddedPostgres({
  dataDir,
  cacheDir,
  log: () => {},
  onStateChange: (state) => process.send?.({ state }),
});
process.send?.({ state: 'told', url: server.url, pid: server.pid, isAdopted: server.isAdopted });
process.on('message', () => {
  void server.stop().then(() => process.disconnect());
});
