/** Acceptance of POST /instances while workers are paused: 8 clients for 10 s. Run: node scripts/bootstrap.mjs bench/accept.ts */
import autocannon from 'autocannon';
import { ADMIN_KEY } from '../test/support/muster-process.ts';
import { openLab, percentile } from './lab.ts';

const CLIENTS = 8;
const SECONDS = 10;

const lab = await openLab();
await lab.muster.start();
await new Promise((resolve) => setTimeout(resolve, 5_000)); // offers, so that the GPU is known
await lab.muster.kill('SIGTERM');
const api = await openApiOnly();
const latencies: number[] = [];
const result = await new Promise<autocannon.Result>((resolve, reject) => {
  const run = autocannon(
    {
      url: `${api.url}/api/v1/instances`,
      method: 'POST',
      connections: CLIENTS,
      duration: SECONDS,
      headers: { authorization: `Bearer ${ADMIN_KEY}`, 'content-type': 'application/json' },
      body: JSON.stringify({ gpu: 'RTX 4090', maxPriceUsdPerHour: '0.60' }),
    },
    (error, done) => (error ? reject(new Error('autocannon failed', { cause: error })) : resolve(done)),
  );
  run.on('response', (_client, _status, _bytes, responseTime) => latencies.push(responseTime));
});
const show = (share: number) => percentile(latencies, share).toFixed(0);
console.log(
  `accepted ${result['2xx']} in ${SECONDS} s with ${CLIENTS} clients: ${(result['2xx'] / SECONDS).toFixed(0)}/s, p50 ${show(0.5)} ms, p95 ${show(0.95)} ms, p99 ${show(0.99)} ms, not accepted ${result.non2xx}`,
);
await api.kill('SIGTERM');
await lab.sandbox.close();

async function openApiOnly() {
  const { createMusterProcess } = await import('../test/support/muster-process.ts');
  const muster = await createMusterProcess({
    dataDir: `${lab.dir}/data`,
    sandboxPort: lab.sandbox.ports.control,
    env: {
      MUSTER_ROLES: 'api',
      MUSTER_LOG_LEVEL: 'warn',
      MUSTER_MAX_INSTANCES: '100000',
      MUSTER_MAX_BURN_USD_PER_HOUR: '100000',
    },
  });
  await muster.start();
  return muster;
}
