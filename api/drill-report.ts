/** The report of a drill as a page that can be kept or sent: plain HTML, without scripts or anything from elsewhere. */
import { judgeDrill, type DrillMeasures } from '../domain/drill.ts';
import type { DrillReply } from './contract/standbys.ts';

const STYLE = `body{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
h1{font-size:1.5rem}h2{margin-top:2rem;font-size:1.15rem;border-bottom:1px solid #d0d7de}code{font:13px/1.45 ui-monospace,monospace}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #d0d7de}td.n,th.n{text-align:right}
.passed{color:#116329}.failed{color:#a40e26}.canceled,.running{color:#57606a}.bar{display:flex;height:1.4rem;border-radius:4px;overflow:hidden;background:#eaeef2}
.bar span{display:block;min-width:2px}.d{background:#d4a72c}.s{background:#cf222e}.r{background:#54aeff}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dt{color:#57606a}dd{margin:0}`;

const ROWS = [
  { key: 'detectionMs', name: 'Detection', what: 'from the loss until it was noticed' },
  { key: 'rtoMs', name: 'Recovery time (RTO)', what: 'from the loss until the workload was served again' },
  { key: 'rpoMs', name: 'Recovery point (RPO)', what: 'how old the data was that was served then' },
  { key: 'restoredMs', name: 'Replacement', what: 'from the loss until another machine had the workload' },
  { key: 'costMicroUsd', name: 'Cost', what: 'of the machines of the failover and the standby' },
] as const;

const MOMENTS = [
  ['begun', 'The drill began'],
  ['recoveryPoint', 'The data that was served is of'],
  ['lost', 'The machine was lost'],
  ['detected', 'The loss was noticed'],
  ['serving', 'The workload was served again'],
  ['complete', 'A replacement had the workload'],
] as const;

const NO_MEASURES: DrillMeasures = {
  detectionMs: null,
  rtoMs: null,
  rpoMs: null,
  restoredMs: null,
  costMicroUsd: null,
};

/** @param names of the standby and the instance, as people gave them */
export function renderDrillReport(drill: DrillReply, names: { standby: string; instance: string }): string {
  const title = `Drill ${drill.id}: ${drill.status}`;
  const body = [
    `<h1>Drill of ${escape(names.standby)} for ${escape(names.instance)}: <span class="${drill.status}">${drill.status}</span></h1>`,
    `<p>${escape(describe(drill))}</p>`,
    failures(drill),
    `<h2>Figures</h2>${figures(drill)}`,
    timeline(drill),
    `<h2>Moments</h2>${moments(drill)}`,
    `<h2>Record</h2>${record(drill)}`,
  ].join('\n');
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${escape(title)}</title><style>${STYLE}</style></head><body>${body}</body></html>\n`;
}

function describe({ status, mode, phase }: DrillReply): string {
  const how =
    mode === 'sandbox'
      ? 'The simulated machine was killed, and the loss had to be noticed without help.'
      : 'A real machine was fenced and destroyed, with consent; the loss was told, not noticed.';
  const end = {
    running: `It is under way (${phase}).`,
    passed: 'Every target was met.',
    failed: 'It failed.',
    canceled: 'It was canceled.',
  }[status];
  return `${how} ${end}`;
}

function failures({ failures: all }: DrillReply): string {
  if (all.length === 0) return '';
  return `<ul class="failed">${all.map((one) => `<li>${escape(one)}</li>`).join('')}</ul>`;
}

function figures({ measures, targets, status }: DrillReply): string {
  const measured = measures ?? NO_MEASURES;
  const isOver = status === 'passed' || status === 'failed';
  const missed = judgeDrill(measured, targets);
  const rows = ROWS.map(({ key, name, what }) => {
    const target = key === 'restoredMs' ? null : targets[key];
    const isMissed = missed.some((one) => one.startsWith(`${key}:`));
    const verdict = target === null ? 'not judged' : !isOver ? '' : isMissed ? 'missed' : 'met';
    const style = verdict === 'missed' ? 'failed' : verdict === 'met' ? 'passed' : 'running';
    return `<tr><td>${name}<br><small>${what}</small></td><td class="n">${format(key, measured[key])}</td><td class="n">${format(key, target)}</td><td class="${style}">${verdict}</td></tr>`;
  });
  return `<table><tr><th>Figure</th><th class="n">Measured</th><th class="n">Target</th><th></th></tr>${rows.join('')}</table>`;
}

/** What passed between the loss and the end, to scale. */
function timeline({ measures }: DrillReply): string {
  const { detectionMs, rtoMs, restoredMs } = measures ?? NO_MEASURES;
  if (detectionMs === null || rtoMs === null) return '';
  const end = Math.max(restoredMs ?? rtoMs, rtoMs, 1);
  const share = (ms: number) => `${((100 * Math.max(0, ms)) / end).toFixed(2)}%`;
  const parts = [
    ['d', detectionMs, 'unnoticed'],
    ['s', rtoMs - detectionMs, 'noticed, not served'],
    ['r', end - rtoMs, 'served by the standby'],
  ] as const;
  const bars = parts.map(([style, length]) => `<span class="${style}" style="width:${share(length)}"></span>`).join('');
  const legend = parts.map(([, length, what]) => `${what} ${seconds(length)}`).join(' · ');
  return `<h2>Course</h2><div class="bar">${bars}</div><p>${escape(legend)}</p>`;
}

function moments({ moments: all }: DrillReply): string {
  const rows = MOMENTS.flatMap(([key, what]) => {
    const at = all[key];
    return at === undefined ? [] : [`<dt>${what}</dt><dd><code>${escape(at)}</code></dd>`];
  });
  return rows.length === 0 ? '<p>None yet.</p>' : `<dl>${rows.join('')}</dl>`;
}

function record(drill: DrillReply): string {
  const facts: [string, string | null][] = [
    ['Drill', drill.id],
    ['Standby', drill.standbyId],
    ['Instance', drill.instanceId],
    ['Failover', drill.failoverId],
    ['Operation', drill.operationId],
    ['Mode', drill.mode],
    ['Asked for', drill.createdAt],
    ['Ended', drill.finishedAt],
  ];
  return `<dl>${facts.map(([name, value]) => `<dt>${name}</dt><dd><code>${escape(value ?? '-')}</code></dd>`).join('')}</dl>`;
}

function format(key: string, value: number | null): string {
  if (value === null) return '-';
  return key === 'costMicroUsd' ? `$${(value / 1_000_000).toFixed(4)}` : seconds(value);
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function escape(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}
