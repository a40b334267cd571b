/** Routes about the control plane itself: health, readiness, metrics, documents. */
import { readFile } from 'node:fs/promises';
import { isConnectionError } from '../../db/database.ts';
import { listUnusableProviders } from '../../db/circuits.ts';
import { listComponents } from '../../db/processes.ts';
import { listProviders, type ProviderRow } from '../../db/providers.ts';
import { health, readiness, type Readiness } from '../contract/health.ts';
import { renderApiPage, renderErrorsPage } from '../docs-page.ts';
import { OPENAPI_FILE } from '../openapi-file.ts';
import { route, type Call, type Route } from '../route.ts';

const AREA = 'health';

export const healthRoutes: Route[] = [
  route({
    method: 'get',
    path: '/health',
    isTopLevel: true,
    access: 'public',
    area: AREA,
    summary: 'Alive',
    replies: { 200: health },
    handle: async () => ({ status: 200, body: { status: 'ok' } }),
  }),
  route({
    method: 'get',
    path: '/ready',
    isTopLevel: true,
    access: 'public',
    area: AREA,
    summary: 'Ready to work',
    description:
      'Needs the database, the engine, and every enabled provider listed once. A provider in trouble, or a missing restic, is shown, but does not make the control plane unready.',
    replies: { 200: readiness, 503: readiness },
    handle: async ({ deps }) => {
      const body = await readReadiness(deps);
      return { status: body.ready ? 200 : 503, body };
    },
  }),
  route({
    method: 'get',
    path: '/metrics',
    isTopLevel: true,
    access: 'read',
    area: AREA,
    summary: 'Metrics for Prometheus',
    replies: { 200: 'text/plain; version=0.0.4; charset=utf-8' },
    handle: async ({ deps }) => ({ status: 200, body: await deps.metrics.metrics() }),
  }),
  route({
    method: 'get',
    path: '/openapi.json',
    access: 'public',
    area: AREA,
    summary: 'This API as an OpenAPI 3.1 document',
    replies: { 200: 'application/json' },
    handle: async () => ({ status: 200, body: await readFile(OPENAPI_FILE, 'utf8') }),
  }),
  route({
    method: 'get',
    path: '/docs',
    access: 'public',
    area: AREA,
    summary: 'This API as a page',
    replies: { 200: 'text/html' },
    handle: async () => ({
      status: 200,
      body: renderApiPage(JSON.parse(await readFile(OPENAPI_FILE, 'utf8')) as unknown),
    }),
  }),
  route({
    method: 'get',
    path: '/docs/errors',
    access: 'public',
    area: AREA,
    summary: 'The codes of errors as a page',
    replies: { 200: 'text/html' },
    handle: async () => ({ status: 200, body: renderErrorsPage() }),
  }),
];

async function readReadiness(deps: Call['deps']): Promise<Readiness> {
  const db = deps.database.kysely;
  try {
    const [components, providers, unusable] = await Promise.all([
      listComponents(db),
      listProviders(db),
      listUnusableProviders(db),
    ]);
    const engines = components.filter((row) => row.component === 'engine');
    const engine = engines.find((row) => row.ready) ?? engines[0];
    const stores = components.filter((row) => row.component === 'snapshots');
    const snapshots = stores.find((row) => row.ready) ?? stores[0];
    const checks = {
      ...(snapshots ? { snapshots: { ready: snapshots.ready, reason: snapshots.reason } } : {}),
      database: { ready: true, reason: 'answers' },
      engine: engine
        ? { ready: engine.ready, reason: engine.reason }
        : { ready: false, reason: 'no worker has reported' },
      providers: Object.fromEntries(providers.map((row) => [row.name, checkProvider(row, unusable.get(row.name))])),
    };
    const isListed = providers.every((row) => row.mode === 'off' || !row.enabled || row.status !== 'unknown');
    return { ready: checks.engine.ready && isListed, checks };
  } catch (error) {
    if (!isConnectionError(error)) throw error;
    const unknown = { ready: false, reason: 'not known while the database does not answer' };
    return {
      ready: false,
      checks: { database: { ready: false, reason: 'does not answer' }, engine: unknown, providers: {} },
    };
  }
}

function checkProvider(
  row: ProviderRow,
  circuit: { reason: string } | undefined,
): Readiness['checks']['providers'][string] {
  if (row.mode === 'off') return { ready: false, reason: 'off: no key is configured' };
  if (!row.enabled) return { ready: false, reason: 'disabled by an admin' };
  if (row.status === 'unknown') return { ready: false, reason: 'not listed yet' };
  if (row.status === 'ok' && circuit !== undefined)
    return { ready: false, reason: `nothing is bought: ${circuit.reason}` };
  const isUsable = row.status === 'ok' || row.status === 'degraded';
  return { ready: isUsable, reason: row.reason ?? (isUsable ? `listed ${row.offers_count ?? 0} offers` : row.status) };
}
