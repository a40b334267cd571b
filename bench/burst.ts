/**
 * Bursts against the sandbox at 50 ms latency: 100 and 200 requests of one instance each, then one request with `count: 100`.
 * `--documented` repeats 100 with the vendor's documented rate limits (minutes). Run: node scripts/bootstrap.mjs bench/burst.ts
 */
import { parseArgs } from 'node:util';
import { waitFor, type MusterProcess } from '../test/support/muster-process.ts';
import { openLab, percentile, waitUntilReady, type Lab } from './lab.ts';

const { values } = parseArgs({ options: { documented: { type: 'boolean', default: false } } });
/** Asking is work for the machine that is measured. */
const POLL_MS = 500;
const REQUEST = { gpu: 'RTX 4090', maxPriceUsdPerHour: '0.99', strategy: 'coldstart' };

if (values.documented) {
  await measure('100 requests, documented rate limits', { MUSTER_VASTAI_RATE_LIMITS: 'documented' }, (lab) =>
    burst(lab, 100, 1_800_000),
  );
} else {
  await measure('100 requests of one instance', {}, (lab) => burst(lab, 100, 300_000));
  await measure('200 requests of one instance', {}, (lab) => burst(lab, 200, 300_000));
  await measure('one request with count 100', {}, (lab) => countOfHundred(lab));
}

async function measure(name: string, env: Record<string, string>, run: (lab: Lab) => Promise<string>): Promise<void> {
  const lab = await openLab({ sandbox: { offers: 1_500, latencyMs: 50 }, env });
  await lab.muster.start();
  await waitUntilReady(lab.muster);
  await new Promise((resolve) => setTimeout(resolve, 5_000)); // the children are warm
  console.log(`${name}: ${await run(lab)}`);
  await lab.close();
}

async function burst(lab: Lab, requests: number, boundMs: number): Promise<string> {
  const startedAt = performance.now();
  const readyAt: number[] = [];
  const replies = await Promise.all(
    Array.from({ length: requests }, () => lab.muster.request('POST', '/api/v1/instances', REQUEST)),
  );
  const refused = replies.filter((reply) => reply.status !== 202).length;
  const acceptedMs = performance.now() - startedAt;
  await waitFor(
    async () => {
      const live = await countLive(lab.muster);
      while (readyAt.length < live.ready) readyAt.push(performance.now() - startedAt);
      return live.ready + live.ended + refused >= requests;
    },
    boundMs,
    `${requests} instances`,
    POLL_MS,
  );
  const totalMs = performance.now() - startedAt;
  return [
    `${readyAt.length} of ${requests} live in ${(totalMs / 1000).toFixed(1)} s`,
    `accepted in ${(acceptedMs / 1000).toFixed(1)} s`,
    `ready p50 ${(percentile(readyAt, 0.5) / 1000).toFixed(1)} s, p95 ${(percentile(readyAt, 0.95) / 1000).toFixed(1)} s`,
    `${(readyAt.length / (totalMs / 1000)).toFixed(1)} completed/s`,
    purchases(lab),
  ].join(', ');
}

async function countOfHundred(lab: Lab): Promise<string> {
  const startedAt = performance.now();
  await lab.muster.request('POST', '/api/v1/instances', { ...REQUEST, count: 100 });
  const bought = () => lab.sandbox.state().vastai.machines.filter((machine) => machine.origin !== 'foreign').length;
  await waitFor(() => bought() >= 100, 120_000, '100 machines bought');
  const boughtMs = performance.now() - startedAt;
  await waitFor(async () => (await countLive(lab.muster)).ready === 100, 120_000, '100 instances ready', POLL_MS);
  const readyMs = performance.now() - startedAt;
  return `all bought in ${(boughtMs / 1000).toFixed(1)} s, all ready in ${(readyMs / 1000).toFixed(1)} s, ${purchases(lab)}`;
}

function purchases(lab: Lab): string {
  const counts = Object.values(lab.sandbox.state().vastai.purchases);
  const accepted = counts.reduce((sum, count) => sum + count.accepted, 0);
  const refused = counts.reduce((sum, count) => sum + count.refused, 0);
  return `${((accepted + refused) / accepted).toFixed(2)} purchase calls per machine (${accepted} bought, ${refused} refused)`;
}

async function countLive(muster: MusterProcess): Promise<{ ready: number; ended: number }> {
  let cursor: string | null = null;
  let ready = 0;
  let ended = 0;
  do {
    const page: { body: { items: { status: string }[]; nextCursor: string | null } } = await muster.request(
      'GET',
      `/api/v1/instances?limit=500${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`,
    );
    for (const item of page.body.items) {
      if (item.status === 'ready') ready++;
      else if (item.status === 'destroyed' || item.status === 'destroying') ended++;
    }
    cursor = page.body.items.length === 500 ? page.body.nextCursor : null;
  } while (cursor !== null);
  return { ready, ended };
}
