/** A pod's health as seen from outside its container: its published port is asked at its interval, and failures in a row make it unhealthy. */
import type { IncomingMessage } from 'node:http';
import type { DesiredPod, PodReport } from '../../api/contract/pods.ts';

export type HealthCheck = NonNullable<DesiredPod['spec']['healthCheck']>;

export interface HealthState {
  health: PodReport['health'];
  failures: number;
  /** Why the last one failed. */
  reason: string | null;
  /** Of the clock that only moves forward. */
  nextAt: number;
}

export const NOT_ASKED: HealthState = { health: 'starting', failures: 0, reason: null, nextAt: 0 };

/** @param failure null: it answered as it should @param runsForMs since the container started */
export function nextHealth(
  state: HealthState,
  check: HealthCheck,
  failure: string | null,
  at: { now: number; runsForMs: number },
): HealthState {
  const nextAt = at.now + check.intervalSeconds * 1_000;
  if (failure === null) return { health: 'healthy', failures: 0, reason: null, nextAt };
  const isEarly = state.health === 'starting' && at.runsForMs < check.startPeriodSeconds * 1_000;
  if (isEarly) return { ...state, reason: failure, nextAt };
  const failures = state.failures + 1;
  return { health: failures >= check.retries ? 'unhealthy' : state.health, failures, reason: failure, nextAt };
}

/** null: as it should; else what went wrong. Never throws. */
export async function ask(check: HealthCheck, ports: PodReport['ports']): Promise<string | null> {
  const { probe, timeoutSeconds } = check;
  if (probe.kind === 'command') return null;
  const port = ports.find((one) => one.protocol === 'tcp' && one.containerPort === probe.port)?.hostPort;
  if (port === undefined) return `port ${probe.port} is not published`;
  const timeoutMs = timeoutSeconds * 1_000;
  return probe.kind === 'tcp' ? connectTo(port, timeoutMs) : request(port, probe.path, timeoutMs);
}

function connectTo(port: number, timeoutMs: number): Promise<string | null> {
  const { connect } = process.getBuiltinModule('node:net');
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, timeout: timeoutMs });
    const end = (outcome: string | null) => {
      socket.destroy();
      resolve(outcome);
    };
    socket.on('connect', () => end(null));
    socket.on('timeout', () => end(`port ${port} did not answer in time`));
    socket.on('error', (error: Error & { code?: string }) => end(`port ${port}: ${error.code ?? error.message}`));
  });
}

function request(port: number, path: string, timeoutMs: number): Promise<string | null> {
  const http = process.getBuiltinModule('node:http');
  return new Promise((resolve) => {
    const sent = http.get(
      {
        host: '127.0.0.1',
        port,
        path,
        agent: false,
        signal: AbortSignal.timeout(timeoutMs),
        headers: { 'user-agent': 'muster-agent' },
      },
      (response: IncomingMessage) => {
        const status = response.statusCode ?? 0;
        response.destroy();
        resolve(status >= 200 && status < 400 ? null : `answered ${status}`);
      },
    );
    sent.on('error', (error: Error & { code?: string }) =>
      resolve(
        error.name === 'AbortError' || error.name === 'TimeoutError'
          ? 'did not answer in time'
          : `port ${port}: ${error.code ?? error.message}`,
      ),
    );
  });
}
