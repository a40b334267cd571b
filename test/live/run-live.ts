/**
 * The live tier: `npm run test:live`. Rents the cheapest real machine below a bound through the whole program, looks into it, gives it back
 * and proves it gone. Exit codes: 0 all of it held, 1 something did not (what may be left is said), 2 refused, nothing started.
 */
import { readEnvironment } from '../../config.ts';
import { LiveRefusal, readLiveOrder } from './live-order.ts';
import { runLive } from './live-rental.ts';

const STOP_LIMIT_MS = 15 * 60_000;

process.send?.({ stopLimitMs: STOP_LIMIT_MS });
const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    console.error(`${signal}: giving back what was rented; this takes a moment`);
    stopping.abort(new Error(`stopped by ${signal}`));
  });
}
process.on('disconnect', () => stopping.abort(new Error('whoever started this is gone')));
try {
  const order = readLiveOrder(process.argv.slice(2), readEnvironment());
  process.exitCode = (await runLive(order, stopping.signal, console.log)) ? 0 : 1;
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = error instanceof LiveRefusal ? 2 : 1;
}
if (process.connected) process.disconnect();
