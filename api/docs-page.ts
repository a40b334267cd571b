/** The pages for people: the OpenAPI document and the error table as plain HTML, without scripts or anything from elsewhere. */
import { ERROR_CODES, ERROR_TABLE } from '../domain/error-table.ts';

const STYLE = `body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
h1{font-size:1.6rem}h2{margin-top:2.5rem;border-bottom:1px solid #d0d7de}code,pre{font:13px/1.45 ui-monospace,monospace}
pre{background:#f6f8fa;padding:.8rem;overflow:auto;border-radius:6px}details{margin:.4rem 0;padding:.4rem .6rem;border:1px solid #d0d7de;border-radius:6px}
summary{cursor:pointer}.method{display:inline-block;min-width:4.5rem;font-weight:600}.access{color:#57606a;float:right}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d0d7de}:target{background:#fff8c5}`;

interface OpenApi {
  info: { title: string; version: string; description?: string };
  paths: Record<string, Record<string, OpenApiOperation>>;
  components?: { schemas?: Record<string, unknown> };
}

interface OpenApiOperation {
  tags?: string[];
  summary?: string;
  description?: string;
  parameters?: unknown[];
  requestBody?: unknown;
  responses?: unknown;
  'x-access'?: string;
}

export function renderApiPage(document: unknown): string {
  const { info, paths, components } = document as OpenApi;
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );
  const areas = [...Map.groupBy(operations, ({ operation }) => operation.tags?.[0] ?? 'other')];
  const body = areas
    .map(([area, entries]) => `<h2>${escape(area)}</h2>${entries.map(renderOperation).join('')}`)
    .join('');
  const schemas = Object.entries(components?.schemas ?? {})
    .map(
      ([name, schema]) =>
        `<details id="schema-${escape(name)}"><summary><code>${escape(name)}</code></summary>${renderJson(schema)}</details>`,
    )
    .join('');
  return renderPage(
    `${info.title} ${info.version}`,
    `<p>${escape(info.description ?? '')}</p><p><a href="openapi.json">openapi.json</a> · <a href="docs/errors">errors</a></p>${body}<h2>schemas</h2>${schemas}`,
  );
}

export function renderErrorsPage(): string {
  const rows = ERROR_CODES.map((code) => {
    const { status, title, retryable } = ERROR_TABLE[code];
    return `<tr id="${code}"><td><code>${code}</code></td><td>${status}</td><td>${escape(title)}</td><td>${retryable ? 'yes' : 'no'}</td></tr>`;
  }).join('');
  return renderPage(
    'Errors',
    `<table><tr><th>code</th><th>status</th><th>meaning</th><th>may succeed later</th></tr>${rows}</table>`,
  );
}

function renderOperation({
  path,
  method,
  operation,
}: {
  path: string;
  method: string;
  operation: OpenApiOperation;
}): string {
  const parts = [
    operation.description === undefined ? '' : `<p>${escape(operation.description)}</p>`,
    operation.parameters === undefined ? '' : `<h4>Parameters</h4>${renderJson(operation.parameters)}`,
    operation.requestBody === undefined ? '' : `<h4>Body</h4>${renderJson(operation.requestBody)}`,
    `<h4>Replies</h4>${renderJson(operation.responses)}`,
  ];
  return `<details><summary><span class="method">${escape(method.toUpperCase())}</span><code>${escape(path)}</code> ${escape(operation.summary ?? '')}<span class="access">${escape(operation['x-access'] ?? '')}</span></summary>${parts.join('')}</details>`;
}

function renderJson(value: unknown): string {
  const text = escape(JSON.stringify(value, null, 2));
  return `<pre>${text.replace(/#\/components\/schemas\/(\w+)/g, '<a href="#schema-$1">$1</a>')}</pre>`;
}

function renderPage(title: string, body: string): string {
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${escape(title)}</title><style>${STYLE}</style></head><body><h1>${escape(title)}</h1>${body}</body></html>\n`;
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
