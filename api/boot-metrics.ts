/** What Prometheus learns of how fast machines boot and instances wake: quantiles of the last day, read at each scrape. */
import { Gauge, type Registry } from 'prom-client';
import { readBootFigures, readWakeFigure } from '../db/boot-figures.ts';
import type { Db } from '../db/database.ts';

/** Once per registry. */
export function addBootMetrics(registry: Registry, db: Db): void {
  if (registry.getSingleMetric('muster_boot_seconds')) return;
  // Gauges are collected beside each other: each fills itself, and those of boots share one reading of a scrape.
  let reading: ReturnType<typeof readBootFigures> | undefined;
  const read = () => (reading ??= readBootFigures(db).finally(() => (reading = undefined)));
  const boots = new Gauge({
    name: 'muster_boot_seconds',
    help: 'From purchase to verified ready, of machines that became ready in the last day',
    labelNames: ['provider', 'strategy', 'quantile'],
    registers: [registry],
    async collect() {
      const figures = await read();
      boots.reset();
      for (const { provider, strategy, p50Seconds, p95Seconds } of figures) {
        boots.set({ provider, strategy, quantile: '0.5' }, p50Seconds);
        boots.set({ provider, strategy, quantile: '0.95' }, p95Seconds);
      }
    },
  });
  const counts = new Gauge({
    name: 'muster_boots',
    help: 'Machines that became ready in the last day',
    labelNames: ['provider', 'strategy'],
    registers: [registry],
    async collect() {
      const figures = await read();
      counts.reset();
      for (const { provider, strategy, count } of figures) counts.set({ provider, strategy }, count);
    },
  });
  const wakes = new Gauge({
    name: 'muster_wake_seconds',
    help: 'From the request to ready with its files, of instances woken in the last day',
    labelNames: ['quantile'],
    registers: [registry],
    async collect() {
      const figure = await readWakeFigure(db);
      wakes.reset();
      if (figure === null) return;
      wakes.set({ quantile: '0.5' }, figure.p50Seconds);
      wakes.set({ quantile: '0.95' }, figure.p95Seconds);
    },
  });
}
