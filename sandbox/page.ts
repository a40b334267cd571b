/** The control page for a person: machines, offers, faults and what it all costs. Plain HTML, no script. */
import type { FaultInput } from './faults.ts';
import type { Sandbox } from './server.ts';
import type { MachineReport } from './state-report.ts';

/** Faults worth a button; everything else goes through the free form. */
const QUICK_FAULTS: readonly (readonly [title: string, fault: FaultInput])[] = [
  [
    'Lose every second purchase answer',
    { provider: 'vastai', endpoint: 'create', kind: 'lose_response', probability: 0.5 },
  ],
  [
    'Execute purchases, answer 503',
    { provider: 'vastai', endpoint: 'create', kind: 'execute_then_status', probability: 0.5 },
  ],
  ['10 % stale offers', { provider: 'vastai', endpoint: 'create', kind: 'stale_offer', probability: 0.1 }],
  ['Empty listing', { provider: 'vastai', endpoint: 'list', kind: 'empty' }],
  ['Listing as HTML', { provider: 'vastai', endpoint: 'list', kind: 'html' }],
  ['Shrunken listing', { provider: 'vastai', endpoint: 'list', kind: 'shrink' }],
  ['Listing gone (410)', { provider: 'vastai', endpoint: 'list', kind: 'status', status: 410 }],
  ['Delete outage', { provider: 'vastai', endpoint: 'destroy', kind: 'status' }],
  ['Rate limit everything', { provider: 'vastai', endpoint: '*', kind: 'rate_limit' }],
  ['Boots fail', { provider: 'vastai', endpoint: 'machine', kind: 'failed_boot' }],
  ['Boots take 10 times longer', { provider: 'vastai', endpoint: 'machine', kind: 'slow_boot' }],
  ['SSH never answers', { provider: 'vastai', endpoint: 'machine', kind: 'ssh_never_answers' }],
  ['Wrong GPUs', { provider: 'vastai', endpoint: 'machine', kind: 'wrong_gpu' }],
];
const SHOWN_DESTROYED = 20;

export function renderPage(sandbox: Sandbox, problem: string | null): string {
  const { vastai, nowMs, timeMode } = sandbox.state();
  const live = vastai.machines.filter((machine) => machine.destroyedAtMs === null);
  const destroyed = vastai.machines
    .filter((machine) => machine.destroyedAtMs !== null)
    .slice(-SHOWN_DESTROYED)
    .reverse();
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Muster sandbox</title><style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem;max-width:80rem;color:#222;background:#fff}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.2rem .7rem;border-bottom:1px solid #ddd;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}form{display:inline}button{font:inherit;cursor:pointer}
textarea{font:13px monospace;width:50rem;max-width:100%;height:5rem}.problem{color:#a00}</style></head><body>
<h1>Muster sandbox</h1>
${problem === null ? '' : `<p class="problem">${escapeHtml(problem)}</p>`}
<p>Nothing here is real and nothing costs money. Vast.ai at <code>${escapeHtml(sandbox.urls.vastai)}</code>, key
<code>${escapeHtml(sandbox.apiKey)}</code>. Time is ${timeMode}: ${new Date(nowMs).toISOString()}
${button('POST /__sandbox/clock', { advanceMs: 60_000 }, '+1 min')}
${button('POST /__sandbox/clock', { advanceMs: 3_600_000 }, '+1 h')}</p>
<p><b>${live.length}</b> machines, <b>${vastai.offersListed}</b> offers listed, burn <b>${usd(vastai.burnMicroUsdPerHour)}</b>
per hour, charged so far <b>${usd(vastai.totalChargedMicroUsd)}</b>.</p>
<h2>Machines</h2>${renderMachines(live)}
<p>${button('POST /__sandbox/machines', { provider: 'vastai', label: 'somebody-else', origin: 'foreign' }, 'Add a foreign machine')}</p>
<h2>Faults</h2>${renderFaults(sandbox)}
${destroyed.length === 0 ? '' : `<h2>Destroyed (last ${destroyed.length})</h2>${renderDestroyed(destroyed)}`}
<p>${button('POST /__sandbox/reset', {}, 'Reset everything')}</p>
<p>Everything on this page is also a route; see sandbox/README.md.</p></body></html>`;
}

function renderMachines(machines: readonly MachineReport[]): string {
  const rows = machines.map((machine) => {
    const about = { provider: 'vastai', endpoint: 'machine', match: { instanceId: machine.id } };
    const loss = machine.isHostLost ? 'host_return' : 'host_loss';
    const actions = [
      button('POST /__sandbox/faults', { ...about, kind: loss }, machine.isHostLost ? 'Host returns' : 'Lose host'),
    ];
    if (machine.isBid) actions.push(button('POST /__sandbox/faults', { ...about, kind: 'outbid' }, 'Outbid'));
    const ssh = machine.sshPort === null ? '' : `127.0.0.1:${machine.sshPort}`;
    return `<tr><td>${machine.id}</td><td>${escapeHtml(machine.label)}</td><td>${machine.origin}</td><td>${machine.numGpus} × ${escapeHtml(machine.gpuName)}</td>
<td>${machine.actualStatus ?? '–'} (${machine.curState} → ${machine.nextState})</td><td>${ssh}</td><td class="n">${usd(machine.gpuMicroUsdPerHour + machine.storageMicroUsdPerHour)}</td><td class="n">${usd(machine.chargedMicroUsd)}</td><td>${actions.join(' ')}</td></tr>`;
  });
  return `<table><tr><th>Id</th><th>Label</th><th>Origin</th><th>GPUs</th><th>Status</th><th>SSH</th><th>$/h</th><th>Charged</th><th></th></tr>${rows.join('\n')}</table>`;
}

function renderDestroyed(machines: readonly MachineReport[]): string {
  const rows = machines.map(
    (machine) =>
      `<tr><td>${machine.id}</td><td>${escapeHtml(machine.label)}</td><td>${new Date(machine.destroyedAtMs ?? 0).toISOString()}</td><td class="n">${usd(machine.chargedMicroUsd)}</td></tr>`,
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
  const quick = QUICK_FAULTS.map(([title, fault]) => button('POST /__sandbox/faults', fault, title)).join(' ');
  return `${table}<p>${quick}</p>
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
