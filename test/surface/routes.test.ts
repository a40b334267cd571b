import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { renderErrorDocs, ERROR_DOCS_FILE } from '../../api/error-docs.ts';
import { OPENAPI_FILE } from '../../api/openapi-file.ts';
import { renderOpenApi } from '../../api/openapi.ts';
import { pathsOf } from '../../api/route.ts';
import { ALL_ROUTES } from '../../api/routes/all-routes.ts';
import { ACCESS_RULES, isAllowed, ROLES, type Role } from '../../domain/access.ts';
import { startApiServer, type ApiServer } from '../support/api-server.ts';

const ABSENT: Record<string, string> = {
  instances: 'ins_aaaaaaaaaaaaaaaa',
  operations: 'op_aaaaaaaaaaaaaaaa',
  findings: 'fnd_aaaaaaaaaaaaaaaa',
  orgs: 'org_aaaaaaaaaaaaaaaa',
  'api-keys': 'key_aaaaaaaaaaaaaaaa',
  inventory: 'off_aaaaaaaaaaaaaaaa',
  sourcing: 'rul_aaaaaaaaaaaaaaaa',
  nodes: 'nod_aaaaaaaaaaaaaaaa',
  snapshots: 'snp_aaaaaaaaaaaaaaaa',
  webhooks: 'whk_aaaaaaaaaaaaaaaa',
  sessions: 'ses_aaaaaaaaaaaaaaaa',
  pools: 'pol_aaaaaaaaaaaaaaaa',
  pods: 'pod_aaaaaaaaaaaaaaaa',
};

const entries = ALL_ROUTES.flatMap((route) =>
  pathsOf(route).map((path) => ({ route, path, name: `${route.method.toUpperCase()} ${path}` })),
);
const guarded = entries.filter(({ route }) => route.access !== 'public');

/** The path with ids of the right shape of things that do not exist. */
function fill(path: string): string {
  const area = path.split('/')[3] ?? '';
  return path
    .replace(':machineId', 'm1')
    .replace(':provider', 'vastai')
    .replace(':name', 'vastai')
    .replace(':id', ABSENT[area] ?? 'none');
}

let server: ApiServer;
const keys = new Map<Role, string>();
beforeAll(async () => {
  server = await startApiServer();
  for (const role of ROLES) keys.set(role, (await server.makeKey(role)).key);
});
afterAll(() => server?.stop());

describe('every route', () => {
  it('has an access rule, a summary, an area and a reply', () => {
    for (const { route, name } of entries) {
      expect(ACCESS_RULES, name).toContain(route.access);
      expect(route.summary, name).not.toBe('');
      expect(route.area, name).not.toBe('');
      expect(Object.keys(route.replies).length, name).toBeGreaterThan(0);
    }
  });

  it('is there once', () => {
    expect(new Set(entries.map(({ name }) => name)).size).toBe(entries.length);
  });

  it('that is open to all is on this list', () => {
    expect(
      entries
        .filter(({ route }) => route.access === 'public')
        .map(({ name }) => name)
        .sort(),
    ).toEqual([
      'GET /api/v1/docs',
      'GET /api/v1/docs/errors',
      'GET /api/v1/nodes/agent.mjs',
      'GET /api/v1/nodes/install.sh',
      'GET /api/v1/nodes/restic/:platform',
      'GET /api/v1/nodes/runtime/:platform',
      'GET /api/v1/openapi.json',
      'GET /health',
      'GET /ready',
      'POST /api/v1/auth/login',
      'POST /api/v1/auth/refresh',
      'POST /api/v1/auth/register',
    ]);
  });

  it('that spends or destroys takes an Idempotency-Key', () => {
    const spending =
      /^(POST \S*\/instances(\/provision|\/:id\/extend)?|DELETE \S*\/instances\S*|POST \S*\/pools|DELETE \S*\/pools\/:id|POST \S*\/sessions(\/:id\/(done|extend))?|DELETE \S*\/sessions\/:id|POST \S*\/operations\/:id\/cancel|POST \S*\/findings\/:id\/(destroy|adopt|repair)|POST \S*\/stacks(\/:id\/(up|refresh|destroy))?|POST \S*\/clusters(\/:id\/(kubeconfig|scale|upgrade|start|stop))?|DELETE \S*\/clusters\/:id|POST \S*\/pods|DELETE \S*\/pods\/:id|POST \S*\/instances\/:id\/(snapshots|restore)|DELETE \S*\/snapshots\/:id|POST \S*\/snapshots\/:id\/verify|POST \S*\/instances\/:id\/(hibernate|hibernation|wake|failover|failover-policy)|POST \S*\/standby(\/(drills|failover|failback))?|DELETE \S*\/standby\/:id|(POST|DELETE) \S*\/instances\/:id\/endpoint\/name|POST \S*\/nodes|DELETE \S*\/nodes\/:id)$/;
    for (const { route, name } of entries) expect(route.isIdempotent === true, name).toBe(spending.test(name));
  });

  it.each(guarded)('$name answers 401 without a credential and with wrong ones', async ({ route, path }) => {
    for (const authorization of [undefined, 'Bearer', 'Basic abc', 'Bearer mk_unknown', 'Bearer a.b.c']) {
      const reply = await server.call(route.method.toUpperCase(), fill(path), {
        key: null,
        headers: authorization === undefined ? {} : { authorization },
      });
      expect(reply.status).toBe(401);
      expect(reply.body.code).toBe('unauthenticated');
      expect(reply.headers.get('www-authenticate')).toBe('Bearer');
    }
  });

  it.each(guarded)('$name answers 403 to exactly the roles that may not', async ({ route, path }) => {
    for (const role of ROLES) {
      if (isAllowed(route.access, { role, isAdmin: false })) continue;
      const reply = await server.call(route.method.toUpperCase(), fill(path), { key: keys.get(role) as string });
      expect({ role, status: reply.status, code: reply.body.code }).toEqual({ role, status: 403, code: 'forbidden' });
    }
  });

  it.each(guarded.filter(({ path }) => path.includes(':id')))(
    '$name answers 404 to an id of another shape',
    async ({ route, path }) => {
      for (const wrong of ['1', 'ins_short', '%00', 'ins_AAAAAAAAAAAAAAAA', "ins_' or 1=1 --"]) {
        const reply = await server.call(route.method.toUpperCase(), path.replace(':id', encodeURIComponent(wrong)), {});
        expect({ wrong, status: reply.status, code: reply.body.code }).toEqual({
          wrong,
          status: 404,
          code: 'not_found',
        });
      }
    },
  );
});

describe('the documents', () => {
  it('openapi.json is what the routes say', () => {
    expect(readFileSync(OPENAPI_FILE, 'utf8')).toBe(renderOpenApi());
  });

  it('openapi.json has every route and nothing else', () => {
    const { paths } = JSON.parse(readFileSync(OPENAPI_FILE, 'utf8')) as { paths: Record<string, object> };
    const listed = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(listed.sort()).toEqual(entries.map(({ name }) => name.replace(/:(\w+)/g, '{$1}')).sort());
  });

  it('docs/errors.md is what the error table says', () => {
    expect(readFileSync(ERROR_DOCS_FILE, 'utf8')).toBe(renderErrorDocs());
  });

  it('are served without a credential and need nothing from elsewhere', async () => {
    const document = await server.call('GET', '/api/v1/openapi.json', { key: null });
    expect(document.body.openapi).toBe('3.1.0');
    for (const path of ['/api/v1/docs', '/api/v1/docs/errors']) {
      const page = await server.call<string>('GET', path, { key: null });
      expect(page.status).toBe(200);
      expect(page.headers.get('content-type')).toMatch(/^text\/html/);
      expect(page.body).not.toMatch(/<script|src="http|href="http|@import/);
    }
  });
});
