/** A heartbeat as an agent sends it, with nothing known but that it lives. */
import type { HeartbeatBody } from '../../api/contract/nodes.ts';

export function makeHeartbeat(change: Partial<HeartbeatBody> = {}): HeartbeatBody {
  return {
    bootId: 'boot-one',
    sequence: 1,
    agentVersion: '1.2.3',
    system: {
      hostname: null,
      os: null,
      kernel: null,
      architecture: null,
      cpuModel: null,
      cpuCount: null,
      load1: null,
      memoryTotalMib: null,
      memoryAvailableMib: null,
      diskTotalMib: null,
      diskFreeMib: null,
      uptimeSeconds: null,
      agentRssMib: null,
    },
    gpu: { verdict: 'healthy', reason: null, readAt: null, driverVersion: null, gpus: [] },
    ...change,
  };
}
