/**
 * Failover by real programs: machines of the sandbox with real agents and restic are lost one after another; how soon is each detected, how
 * soon is another ready with the workspace restored, how old is its data, what did it cost. Then the control plane is killed for a while:
 * nothing may fail over. Run: npm run bench:failover [-- --rounds 3 --outage-seconds 60]
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { FailoverReply } from '../api/contract/failovers.ts';
import { createAgentRunner } from '../sandbox/agent/agent-runner.ts';
import { waitFor } from '../test/support/muster-process.ts';
import { median, openLab, percentile, waitUntilReady } from './lab.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    'outage-seconds': { type: 'string', default: '60' },
  },
});
const RPO = '60 seconds';
const BOUND_MS = 240_000;
const POLL_MS = 100;

interface Shown {
  status: string;
  providerInstanceId: string | null;
  machineId: string | null;
  phaseAt: Record<string, string>;
  attempts: { id: string; purchasedAt: string | null; runningAt: string | null }[];
}

const dir = mkdtempSync(join(tmpdir(), 'muster-failover-'));
const agents = createAgentRunner(join(dir, 'agents'));
const lab = await openLab({
  sandbox: { machineWatch: agents },
  env: {
    MUSTER_AGENT: 'on',
    MUSTER_AGENT_INTERVAL: '10 seconds',
    MUSTER_PROVIDERS: 'vastai',
    MUSTER_FAILOVER_STORM_LIMIT: '1000',
  },
});
const { muster, sandbox } = lab;
await muster.start();
await waitUntilReady(muster);
const measured: {
  detectionMs: number;
  rtoMs: number;
  bootMs: number;
  addedMs: number;
  dataAgeMs: number;
  cost: number;
}[] = [];
const id = await rent();
for (let round = 1; round <= Number(values.rounds); round++) await loseMachine(round);
const outageMs = Number(values['outage-seconds']) * 1_000;
const kept = outageMs > 0 ? await surviveOutage(outageMs) : 'the control plane was left alone';
report();
await muster.request('DELETE', `/api/v1/instances/${id}`);
await waitFor(async () => (await look()).status === 'destroyed', BOUND_MS, 'destroyed', POLL_MS);
agents.close();
await lab.close();
rmSync(dir, { recursive: true, force: true });

async function rent(): Promise<string> {
  const order = {
    gpu: 'RTX 4090',
    maxPriceUsdPerHour: '0.99',
    strategy: 'coldstart',
    failover: { mode: 'replace', rpo: RPO, cooldown: '0 seconds', maxPerDay: 100 },
  };
  const accepted = await muster.request<{ instances: { id: string }[] }>('POST', '/api/v1/instances', order);
  if (accepted.status !== 202) throw new Error(JSON.stringify(accepted));
  const made = accepted.body.instances[0]?.id as string;
  await waitFor(
    async () => (await muster.request<Shown>('GET', `/api/v1/instances/${made}`)).body.status === 'ready',
    BOUND_MS,
    'ready',
    POLL_MS,
  );
  return made;
}

async function look(): Promise<Shown> {
  return (await muster.request<Shown>('GET', `/api/v1/instances/${id}`)).body;
}

function workspaceOf(shown: Shown): string {
  return join(dir, 'agents', `vastai-${shown.providerInstanceId}`, 'workspace');
}

async function loseMachine(round: number): Promise<void> {
  const before = await look();
  const file = join(workspaceOf(before), 'work.txt');
  mkdirSync(workspaceOf(before), { recursive: true });
  writeFileSync(file, `round ${round}`);
  const writtenAt = Date.now();
  const { body: taken } = await muster.request<{ snapshot: { id: string } }>(
    'POST',
    `/api/v1/instances/${id}/snapshots`,
    {},
  );
  await waitFor(
    async () => {
      const { body } = await muster.request<{ items: { status: string; dataAt: string | null }[] }>(
        'GET',
        `/api/v1/snapshots?instanceId=${id}`,
      );
      return body.items.some((one) => one.status === 'verified' && Date.parse(one.dataAt ?? '') >= writtenAt);
    },
    BOUND_MS,
    `a verified snapshot (${JSON.stringify(taken)})`,
    POLL_MS,
  );
  // At any moment of the interval between two heartbeats.
  await new Promise((resolve) => setTimeout(resolve, Math.random() * 10_000));
  const lostAt = Date.now();
  await sandbox.addFault({
    provider: 'vastai',
    endpoint: 'machine',
    kind: 'host_loss',
    match: { instanceId: before.providerInstanceId as string },
  });
  let failover: FailoverReply | undefined;
  await waitFor(
    async () => {
      const { body } = await muster.request<{ items: FailoverReply[] }>(
        'GET',
        `/api/v1/standby/failovers?instanceId=${id}`,
      );
      failover = body.items.find((one) => Date.parse(one.createdAt) >= lostAt - 1_000);
      return failover?.phase === 'complete';
    },
    BOUND_MS,
    'the failover is complete',
    POLL_MS,
  );
  const over = failover as FailoverReply;
  const after = await look();
  const attempt = after.attempts.find((one) => one.id === over.replacementAttemptId);
  const bootMs = Date.parse(attempt?.runningAt ?? '') - Date.parse(attempt?.purchasedAt ?? '');
  const servedAt = Date.parse(over.servingAt ?? '');
  measured.push({
    detectionMs: Date.parse(over.detectedAt) - lostAt,
    rtoMs: servedAt - lostAt,
    bootMs,
    addedMs: servedAt - Date.parse(over.detectedAt) - bootMs,
    dataAgeMs: over.dataAgeMs ?? NaN,
    cost: over.costMicroUsd,
  });
  const restored = join(workspaceOf(after), 'work.txt');
  const isSame = existsSync(restored) && readFileSync(restored, 'utf8') === `round ${round}`;
  const begun = Object.entries(after.phaseAt).sort(([, a], [, b]) => Date.parse(a) - Date.parse(b));
  const since = begun.map(([phase, at]) => `${phase} ${Date.parse(at) - Date.parse(over.detectedAt)}`);
  const isElsewhere = after.machineId !== before.machineId;
  console.log(
    `  round ${round}: ${over.phases.map(({ phase, durationMs }) => `${phase} ${durationMs ?? '-'}`).join(' · ')}` +
      `\n    of the machine, after the detection: ${since.join(' · ')} · running ${Date.parse(attempt?.runningAt ?? '') - Date.parse(over.detectedAt)}` +
      `${isSame ? '' : ' · THE WORKSPACE IS NOT BACK'}${isElsewhere ? '' : ' · THE SAME MACHINE'}`,
  );
}

/** Killed as by the power, and started again after `ms`: whether nothing failed over. */
async function surviveOutage(ms: number): Promise<string> {
  const before = await look();
  await muster.kill('SIGKILL');
  await new Promise((resolve) => setTimeout(resolve, ms));
  await muster.start();
  await waitUntilReady(muster);
  // As long as an agent may take to come back, and then as long as a detection takes.
  await new Promise((resolve) => setTimeout(resolve, 100_000));
  const after = await look();
  const { body } = await muster.request<{ items: FailoverReply[] }>(
    'GET',
    `/api/v1/standby/failovers?instanceId=${id}`,
  );
  const begun = body.items.length - measured.length;
  const isSame = after.status === 'ready' && after.providerInstanceId === before.providerInstanceId;
  return `${ms / 1000} s without a control plane (SIGKILL): ${begun} failovers, ${isSame ? 'the same machine' : `NOT the same machine (${after.status})`}`;
}

function report(): void {
  const line = (name: string, all: number[], unit: number, digits: number, suffix: string) =>
    `${name}: median ${(median(all) / unit).toFixed(digits)}${suffix}, worst ${(percentile(all, 1) / unit).toFixed(digits)}${suffix}`;
  console.log(
    [
      `${measured.length} losses of a machine, heartbeats every 10 s`,
      line(
        'detected after the loss',
        measured.map((one) => one.detectionMs),
        1_000,
        1,
        ' s',
      ),
      line(
        'served again after the loss',
        measured.map((one) => one.rtoMs),
        1_000,
        1,
        ' s',
      ),
      line(
        "of it the provider's boot",
        measured.map((one) => one.bootMs),
        1_000,
        1,
        ' s',
      ),
      line(
        'and of Muster, from detection, beyond the boot',
        measured.map((one) => one.addedMs),
        1_000,
        1,
        ' s',
      ),
      line(
        `age of the data (RPO ${RPO})`,
        measured.map((one) => one.dataAgeMs),
        1_000,
        1,
        ' s',
      ),
      line(
        'cost',
        measured.map((one) => one.cost),
        1_000_000,
        4,
        ' $',
      ),
      kept,
    ].join('\n  '),
  );
}
