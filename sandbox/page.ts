/** The control page for a person: machines, offers, faults and what it all costs. Plain HTML, no script. */
import type { FaultInput } from './faults.ts';
import type { Sandbox, VendorFacts } from './server.ts';
import type { VendorMachineReport, VendorReport } from './vendor.ts';

/** Faults worth a button for every vendor that has the endpoint; everything else goes through the free form. */
const QUICK_FAULTS: readonly (readonly [title: string, fault: Omit<FaultInput, 'provider'>])[] = [
  ['Lose every second purchase answer', { endpoint: 'create', kind: 'lose_response', probability: 0.5 }],
  ['Execute purchases, answer 503', { endpoint: 'create', kind: 'execute_then_status', probability: 0.5 }],
  ['10 % stale offers', { endpoint: 'create', kind: 'stale_offer', probability: 0.1 }],
  ['Empty listing', { endpoint: 'list', kind: 'empty' }],
  ['Listing as HTML', { endpoint: 'list', kind: 'html' }],
  ['Shrunken listing', { endpoint: 'list', kind: 'shrink' }],
  ['Listing gone (410)', { endpoint: 'list', kind: 'status', status: 410 }],
  ['Delete outage', { endpoint: 'destroy', kind: 'status' }],
  ['Rate limit everything', { endpoint: '*', kind: 'rate_limit' }],
  ['Boots fail', { endpoint: 'machine', kind: 'failed_boot' }],
  ['Boots take 10 times longer', { endpoint: 'machine', kind: 'slow_boot' }],
  ['SSH never answers', { endpoint: 'machine', kind: 'ssh_never_answers' }],
  ['Wrong GPUs', { endpoint: 'machine', kind: 'wrong_gpu' }],
];
/** Faults of one machine that have a button beside it. */
const MACHINE_BUTTONS = [
  ['outbid', 'Outbid'],
  ['reclaim', 'Take the GPU back'],
] as const;
const SHOWN_DESTROYED = 20;

export function renderPage(sandbox: Sandbox, problem: string | null): string {
  const state = sandbox.state();
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Muster sandbox</title><style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem;max-width:80rem;color:#222;background:#fff}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.2rem .7rem;border-bottom:1px solid #ddd;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}form{display:inline}button{font:inherit;cursor:pointer}
textarea{font:13px monospace;width:50rem;max-width:100%;height:5rem}.problem{color:#a00}</style></head><body>
<h1>Muster sandbox</h1>
${problem === null ? '' : `<p class="problem">${escapeHtml(problem)}</p>`}
<p>Nothing here is real and nothing costs money. The vendors' key is <code>${escapeHtml(sandbox.apiKey)}</code>. Time is ${state.timeMode}: ${new Date(state.nowMs).toISOString()}
${button('POST /__sandbox/clock', { advanceMs: 60_000 }, '+1 min')}
${button('POST /__sandbox/clock', { advanceMs: 3_600_000 }, '+1 h')}</p>
${sandbox.vendors.map((vendor) => renderVendor(vendor, sandbox.urls[vendor.name], state[vendor.name])).join('\n')}
<h2>Faults that are on</h2>${renderFaults(sandbox)}
<p>${button('POST /__sandbox/reset', {}, 'Reset everything')}</p>
<p>Everything on this page is also a route; see sandbox/README.md.</p></body></html>`;
}

function renderVendor(vendor: VendorFacts, url: string, report: VendorReport): string {
  const { machines, offersListed, burnMicroUsdPerHour, totalChargedMicroUsd } = report;
  const live = machines.filter((machine) => machine.destroyedAtMs === null);
  const destroyed = machines.filter((machine) => machine.destroyedAtMs !== null);
  const shown = destroyed.slice(-SHOWN_DESTROYED).reverse();
  const foreign = { provider: vendor.name, label: 'somebody-else', origin: 'foreign' };
  const faults = QUICK_FAULTS.filter(([, { endpoint }]) =>
    ['*', 'machine', ...vendor.endpoints].includes(endpoint),
  ).map(([title, fault]) => button('POST /__sandbox/faults', { provider: vendor.name, ...fault }, title));
  return `<h2>${escapeHtml(vendor.title)}</h2><p>At <code>${escapeHtml(url)}</code>: <b>${live.length}</b> machines, <b>${offersListed}</b> offers listed,
burn <b>${usd(burnMicroUsdPerHour)}</b> per hour, charged so far <b>${usd(totalChargedMicroUsd)}</b>.
${button('POST /__sandbox/machines', foreign, 'Add a foreign machine')}</p>
${renderMachines(vendor, live)}
<details><summary>Faults</summary><p>${faults.join(' ')}</p></details>
${shown.length === 0 ? '' : `<details><summary>Destroyed (last ${shown.length})</summary>${renderDestroyed(shown)}</details>`}`;
}

function renderMachines(vendor: VendorFacts, machines: readonly VendorMachineReport[]): string {
  const rows = machines.map((machine) => {
    const about = { provider: vendor.name, endpoint: 'machine', match: { instanceId: machine.id } };
    const loss = machine.isHostLost ? 'host_return' : 'host_loss';
    const actions = [
      button('POST /__sandbox/faults', { ...about, kind: loss }, machine.isHostLost ? 'Host returns' : 'Lose host'),
    ];
    for (const [kind, title] of MACHINE_BUTTONS) {
      const isPossible = vendor.machineFaults.includes(kind) && (kind !== 'outbid' || machine.isInterruptible);
      if (isPossible) actions.push(button('POST /__sandbox/faults', { ...about, kind }, title));
    }
    const ssh = machine.sshPort === null ? '' : `127.0.0.1:${machine.sshPort}`;
    return `<tr><td>${escapeHtml(String(machine.id))}</td><td>${escapeHtml(machine.label)}</td><td>${machine.origin}</td><td>${machine.numGpus} × ${escapeHtml(machine.gpuName)}</td>
<td>${escapeHtml(machine.statusText)}${machine.isHostLost ? ' (host lost)' : ''}</td><td>${ssh}</td><td class="n">${usd(machine.priceMicroUsdPerHour)}</td><td class="n">${usd(machine.chargedMicroUsd)}</td><td>${actions.join(' ')}</td></tr>`;
  });
  return `<table><tr><th>Id</th><th>Label</th><th>Origin</th><th>GPUs</th><th>Status</th><th>SSH</th><th>$/h</th><th>Charged</th><th></th></tr>${rows.join('\n')}</table>`;
}

function renderDestroyed(machines: readonly VendorMachineReport[]): string {
  const rows = machines.map(
    (machine) =>
      `<tr><td>${escapeHtml(String(machine.id))}</td><td>${escapeHtml(machine.label)}</td><td>${new Date(machine.destroyedAtMs ?? 0).toISOString()}</td><td class="n">${usd(machine.chargedMicroUsd)}</td></tr>`,
  );
  return `<table><tr><th>Id</th><th>Label</th><th>Destroyed</th><th>Charged</th></tr>${rows.join('\n')}</table>`;
}

function renderFaults(sandbox: Sandbox): string {
  const active = sandbox.listFaults().map(({ id, hits, untilMs: _until, ...fault }) => {
    const text = escapeHtml(JSON.stringify(fault));
    return `<tr><td>${id}</td><td><code>${text}</code></td><td class="n">${hits}</td><td>${button(`DELETE /__sandbox/faults/${id}`, null, 'Off')}</td></tr>`;
  });
  const table =
    active.length === 0
      ? '<p>None is on.</p>'
      : `<table><tr><th></th><th>Fault</th><th>Hits</th><th></th></tr>${active.join('\n')}</table>${button('DELETE /__sandbox/faults', null, 'All off')}`;
  return `${table}
<form method="post" action="/"><input type="hidden" name="do" value="POST /__sandbox/faults">
<textarea name="body" aria-label="A fault as JSON">{"provider":"vastai","endpoint":"read","kind":"delay","delayMs":2000,"times":5}</textarea><br><button>Switch on</button></form>`;
}

function button(action: string, body: object | null, title: string): string {
  const json = body === null ? '' : `<input type="hidden" name="body" value="${escapeHtml(JSON.stringify(body))}">`;
  return `<form method="post" action="/"><input type="hidden" name="do" value="${escapeHtml(action)}">${json}<button>${escapeHtml(title)}</button></form>`;
}

function usd(microUsd: number): string {
  return `$${(microUsd / 1_000_000).toFixed(microUsd % 10_000 === 0 ? 2 : 4)}`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
