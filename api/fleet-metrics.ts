/** What Prometheus learns of the fleet: read from the rows at each scrape, so that every replica tells the same. */
import { Gauge, type Registry } from 'prom-client';
import type { Db } from '../db/database.ts';
import { readFleetFigures, type FleetFigures } from '../db/fleet-figures.ts';

interface FleetGauge {
  name: string;
  help: string;
  label?: string;
  values(figures: FleetFigures): Record<string, number>;
}

const GAUGES: FleetGauge[] = [
  { name: 'muster_instances', help: 'Live instances', label: 'status', values: (figures) => figures.instances },
  {
    name: 'muster_attempts',
    help: 'Rented machines and purchases under way',
    label: 'status',
    values: (figures) => figures.attempts,
  },
  { name: 'muster_operations', help: 'Unfinished operations', label: 'kind', values: (figures) => figures.operations },
  { name: 'muster_findings', help: 'Open findings', label: 'class', values: (figures) => figures.findings },
  {
    name: 'muster_orphans_destroyed',
    help: 'Machines with our label and no row that were found and destroyed; alert on any increase',
    label: 'provider',
    values: (figures) => figures.orphansDestroyed,
  },
  {
    name: 'muster_provider_circuit_open',
    help: '1 while nothing is bought from the provider because calls to it fail, 0.5 while a purchase probes it',
    label: 'circuit',
    values: (figures) => figures.circuits,
  },
  {
    name: 'muster_provider_ok',
    help: '1 where the listings of the provider are believed, 0 otherwise',
    label: 'provider',
    values: ({ providers }) =>
      Object.fromEntries(
        Object.entries(providers)
          .filter(([, status]) => status !== 'off')
          .map(([provider, status]) => [provider, status === 'ok' ? 1 : 0]),
      ),
  },
  {
    name: 'muster_burn_usd_per_hour',
    help: 'What everything live costs by the hour now',
    values: (figures) => ({ '': Number(figures.burnMicroUsdPerHour) / 1e6 }),
  },
];

/** Adds the gauges, once per registry. All of one scrape share one reading. */
export function addFleetMetrics(registry: Registry, db: Db): void {
  if (registry.getSingleMetric('muster_instances')) return;
  let reading: Promise<FleetFigures> | undefined;
  const read = () => {
    reading ??= readFleetFigures(db).finally(() => (reading = undefined));
    return reading;
  };
  for (const { name, help, label, values } of GAUGES) {
    new Gauge({
      name,
      help,
      labelNames: label === undefined ? [] : [label],
      registers: [registry],
      async collect() {
        const current = Object.entries(values(await read()));
        this.reset();
        for (const [key, value] of current) {
          if (label === undefined) this.set(value);
          else this.set({ [label]: key }, value);
        }
      },
    });
  }
}
