/**
 * Many agents at the wire, from one process: each sends a heartbeat every interval and keeps one wait for what its node shall do, by
 * connections of its own, as real agents do. Started by nodes.ts; tells how long each heartbeat took.
 */
import { Agent, request } from 'node:http';
import { percentile } from './lab.ts';

/** From the parent: whom to play. */
export interface LoadOrder {
  url: string;
  keys: string[];
  intervalMs: number;
}

/** To the parent, at each `report` message: since the one before. */
export interface LoadReport {
  beats: number;
  /** By status, or code of the error. */
  failures: Record<string, number>;
  p50: number;
  p95: number;
  p99: number;
  waiting: number;
}

let took: number[] = [];
let failures: Record<string, number> = {};
let waiting = 0;
const connections = new Map<string, Agent>();

process.on('message', (message: LoadOrder | 'report') => {
  if (message === 'report') {
    const report: LoadReport = {
      beats: took.length,
      failures,
      p50: percentile(took, 0.5),
      p95: percentile(took, 0.95),
      p99: percentile(took, 0.99),
      waiting,
    };
    took = [];
    failures = {};
    process.send?.(report);
    return;
  }
  const { url, keys, intervalMs } = message;
  keys.forEach((key, index) => {
    setTimeout(() => void beat(url, key, intervalMs), (index / keys.length) * intervalMs);
    setTimeout(() => void watch(url, key), (index / keys.length) * intervalMs);
  });
});
process.on('disconnect', () => process.exit(0));

async function beat(url: string, key: string, intervalMs: number): Promise<never> {
  for (let sequence = 1; ; sequence++) {
    const startedAt = performance.now();
    const status = await send(`${url}/api/v1/nodes/heartbeat`, key, heartbeat(sequence)).catch(codeOf);
    if (status === 200) took.push(performance.now() - startedAt);
    else failures[status] = (failures[status] ?? 0) + 1;
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, intervalMs - (performance.now() - startedAt))));
  }
}

async function watch(url: string, key: string): Promise<never> {
  for (;;) {
    waiting++;
    const status = await send(`${url}/api/v1/nodes/desired?after=0&waitMs=25000`, key).catch(codeOf);
    waiting--;
    if (status !== 200) await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}

function send(url: string, key: string, body?: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = request(
      url,
      {
        agent: connectionsOf(key),
        method: body === undefined ? 'GET' : 'POST',
        headers: {
          'x-agent-api-key': key,
          ...(body === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
        },
      },
      (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode ?? 0));
        response.on('error', reject);
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}

/** Kept, as an agent's. */
function connectionsOf(key: string): Agent {
  const known = connections.get(key) ?? new Agent({ keepAlive: true, maxFreeSockets: 2 });
  connections.set(key, known);
  return known;
}

function codeOf(error: NodeJS.ErrnoException): string {
  return error.code ?? 'error';
}

/** Of a machine with two GPUs. */
function heartbeat(sequence: number): string {
  const gpu = (index: number) => ({
    index,
    uuid: `GPU-${index}1111111-2222-3333-4444-555555555555`,
    name: 'NVIDIA GeForce RTX 4090',
    busId: `00000000:0${index}:00.0`,
    memoryTotalMib: 24_564,
    memoryUsedMib: 512 + sequence,
    memoryFreeMib: 24_052,
    utilizationPercent: sequence % 100,
    memoryUtilizationPercent: 3,
    temperatureC: 41,
    memoryTemperatureC: null,
    powerW: 24.5,
    powerLimitW: 450,
    pstate: 'P8',
    eccUncorrected: null,
    migMode: null,
    migDevices: null,
    problem: null,
  });
  return JSON.stringify({
    bootId: 'bench-boot-one',
    sequence,
    agentVersion: '0.1.0+0123456789ab',
    system: {
      hostname: 'bench',
      os: 'Ubuntu 24.04.1 LTS',
      kernel: '6.8.0-45-generic',
      architecture: 'x64',
      cpuModel: 'AMD EPYC 7763 64-Core Processor',
      cpuCount: 32,
      load1: 0.5,
      memoryTotalMib: 128_000,
      memoryAvailableMib: 120_000,
      diskTotalMib: 500_000,
      diskFreeMib: 400_000,
      uptimeSeconds: 1_000 + sequence,
      agentRssMib: 55,
      cpuPercent: 12.5,
      memoryUsedMib: 8_000,
      disks: [{ path: '/', totalMib: 500_000, freeMib: 400_000 }],
      networkReceivedBytes: 1e9,
      networkSentBytes: 1e9,
      networkReceivedBytesPerSecond: 1_000,
      networkSentBytesPerSecond: 1_000,
    },
    gpu: {
      verdict: 'healthy',
      reason: null,
      readAt: new Date().toISOString(),
      driverVersion: '570.86.15',
      gpus: [gpu(0), gpu(1)],
    },
    gpuPeakPercent: 5,
    activity: { declaredAgoMs: null },
    desiredRevision: 0,
  });
}
