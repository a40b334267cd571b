/** What Prometheus learns of standbys and failovers: read from the rows at each scrape. */
import { Gauge, type Registry } from 'prom-client';
import type { Db } from '../db/database.ts';
import {
  readFailoverFigures,
  readServiceFigure,
  readStandbyFigures,
  type StandbyFigure,
} from '../db/standby-figures.ts';

interface StandbyGauge {
  name: string;
  help: string;
  /** null: there is none now. */
  value(figure: StandbyFigure): number | null;
}

const STANDBY_GAUGES: StandbyGauge[] = [
  {
    name: 'muster_standby_lag_seconds',
    help: 'How old the newest verified snapshot is that the standby could serve; absent while nobody writes',
    value: ({ lagSeconds }) => lagSeconds,
  },
  {
    name: 'muster_standby_rpo_seconds',
    help: 'How old it may be at most, as declared',
    value: ({ rpoSeconds }) => rpoSeconds,
  },
  {
    name: 'muster_standby_behind',
    help: '1 while the declared RPO is not kept, as judged when the standby was last looked at',
    value: ({ isBehind }) => (isBehind ? 1 : 0),
  },
];

/** Once per registry. Gauges are collected beside each other, and those of standbys share one reading of a scrape. */
export function addStandbyMetrics(registry: Registry, db: Db): void {
  if (registry.getSingleMetric('muster_standby_lag_seconds')) return;
  let reading: Promise<StandbyFigure[]> | undefined;
  const read = () => (reading ??= readStandbyFigures(db).finally(() => (reading = undefined)));
  for (const { name, help, value } of STANDBY_GAUGES) {
    new Gauge({
      name,
      help,
      labelNames: ['standby'],
      registers: [registry],
      async collect() {
        const figures = await read();
        this.reset();
        for (const figure of figures) {
          const now = value(figure);
          if (now !== null) this.set({ standby: figure.standbyId }, now);
        }
      },
    });
  }
  addFailoverMetrics(registry, db);
}

function addFailoverMetrics(registry: Registry, db: Db): void {
  const failovers = new Gauge({
    name: 'muster_failovers',
    help: 'Failovers on record by outcome: complete, failed, canceled, or under_way',
    labelNames: ['outcome', 'cause'],
    registers: [registry],
    async collect() {
      const figures = await readFailoverFigures(db);
      failovers.reset();
      for (const { outcome, cause, count } of figures) failovers.set({ outcome, cause }, count);
    },
  });
  const service = new Gauge({
    name: 'muster_failover_seconds',
    help: 'From the loss of the machine until its work was served again, of failovers that began in the last day',
    labelNames: ['quantile'],
    registers: [registry],
    async collect() {
      const figure = await readServiceFigure(db);
      service.reset();
      if (figure === null) return;
      service.set({ quantile: '0.5' }, figure.p50Seconds);
      service.set({ quantile: '0.95' }, figure.p95Seconds);
    },
  });
}
