/** What the API measures about itself: how many requests, how long, by route and status. */
import { Histogram, type Registry } from 'prom-client';
import { pathsOf, type Route } from './route.ts';

/** Seconds; the target is 50 ms at the 95th percentile. */
const BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10];

export function createHttpMetrics(registry: Registry): (route: Route, status: number, seconds: number) => void {
  const name = 'muster_http_request_duration_seconds';
  const durations =
    (registry.getSingleMetric(name) as Histogram<'method' | 'route' | 'status'> | undefined) ??
    new Histogram({
      name,
      help: 'Duration of HTTP requests (streams until they end)',
      labelNames: ['method', 'route', 'status'],
      buckets: BUCKETS,
      registers: [registry],
    });
  return (route, status, seconds) => {
    durations.observe({ method: route.method.toUpperCase(), route: pathsOf(route)[0], status }, seconds);
  };
}
