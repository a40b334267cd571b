/** `muster prices …` and `muster spot market`: what GPUs cost over time, as it changes, and interruptible ones beside those on demand. */
import type { PriceEvent, PricePoint, SpotClass } from '../../api/contract/prices.ts';
import type { Context } from '../context.ts';
import { followEvents } from '../event-stream.ts';
import { EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatMicroUsd, orDash } from '../format.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

export interface PriceOptions extends PageOptions {
  gpu?: string;
  provider?: string;
  interruptible?: boolean;
  bucket?: string;
  from?: string;
  to?: string;
}

const HISTORY = ['AT', 'PROVIDER', 'GPU', 'RENTAL', 'FLOOR/HOUR', 'LOW', 'HIGH', 'LISTINGS'];
const SPOT = ['GPU', 'PROVIDER', 'FLOOR/HOUR', 'MEDIAN', 'ON DEMAND', 'SAVING', 'VOLATILITY', 'INTERRUPTED', 'OFFERS'];

export function listPriceHistory(context: Context, _args: string[], options: PriceOptions): Promise<ExitCode> {
  const { gpu, provider, interruptible, bucket, from, to } = options;
  const filters = { gpu, provider, interruptible, bucket, from, to };
  return showPage<PricePoint>(context, '/prices/history', filters, options, HISTORY, (point) => [
    point.at,
    point.provider,
    point.gpu,
    rentalOf(point),
    formatMicroUsd(point.floorMicroUsdPerGpuHour),
    formatMicroUsd(point.lowMicroUsdPerGpuHour),
    formatMicroUsd(point.highMicroUsdPerGpuHour),
    String(point.samples),
  ]);
}

/** Until Ctrl-C; a line for each changed floor. */
export async function followPrices(context: Context, _args: string[], options: PriceOptions): Promise<ExitCode> {
  const { terminal, api } = context;
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  const query = new URLSearchParams();
  if (options.gpu !== undefined) query.set('gpu', options.gpu);
  if (options.provider !== undefined) query.set('provider', options.provider);
  if (options.interruptible !== undefined) query.set('interruptible', String(options.interruptible));
  const onLost = () => terminal.say('connection lost; trying again');
  for await (const { data } of followEvents(api, `/prices/events?${query}`, { signal: stop.signal, onLost })) {
    const event = JSON.parse(data) as PriceEvent;
    if (terminal.isJson) terminal.printJsonLine(event);
    else terminal.print(describeChange(event));
  }
  return stop.signal.aborted ? EXIT.interrupted : EXIT.done;
}

export function listSpotMarket(context: Context, _args: string[], options: PriceOptions): Promise<ExitCode> {
  const { gpu, provider } = options;
  return showPage<SpotClass>(context, '/spot/market', { gpu, provider }, options, SPOT, (row) => [
    row.gpu,
    row.provider,
    formatMicroUsd(row.interruptibleFloorMicroUsdPerGpuHour),
    formatMicroUsd(row.interruptibleMedianMicroUsdPerGpuHour),
    formatMicroUsd(row.onDemandFloorMicroUsdPerGpuHour),
    percent(row.savingBasisPoints),
    percent(row.volatilityBasisPoints),
    row.attempts === 0 ? '-' : `${row.interruptions} in ${row.machineHours} h`,
    String(row.offers),
  ]);
}

function describeChange(event: PriceEvent): string {
  const { floorMicroUsdPerGpuHour: now, previousMicroUsdPerGpuHour: before } = event;
  const change = `${before === null ? 'none' : formatMicroUsd(before)} → ${now === null ? 'none' : formatMicroUsd(now)}`;
  return `${event.at}  ${event.gpu} at ${event.provider}, ${rentalOf(event)}: ${change}`;
}

const rentalOf = (row: { interruptible: boolean }) => (row.interruptible ? 'interruptible' : 'on demand');
const percent = (basisPoints: number | null) =>
  orDash(basisPoints === null ? null : `${(basisPoints / 100).toFixed(1)} %`);
