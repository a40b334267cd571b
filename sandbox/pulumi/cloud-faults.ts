/** Faults that a test or a person orders of the simulated clouds: which operation on which resource goes wrong, how, and how often. */
import { createRandom } from '../random.ts';
import type { CloudPackage } from './tables/simulated-types.ts';

export const CLOUD_FAULT_KINDS = [
  /** Refused with `code` and `message`; nothing is made. */
  'refused',
  /** Too many requests, in the cloud's words. */
  'throttled',
  'quota_exceeded',
  /** GCP: ZONE_RESOURCE_POOL_EXHAUSTED; EC2: InsufficientInstanceCapacity; AKS: AllocationFailed. */
  'no_capacity',
  'access_denied',
  /** Another operation is under way: 409. */
  'conflict',
  /** It is made and ends in the cloud's failed state. */
  'create_failed',
  /** A node group (or another with health) that comes up DEGRADED. */
  'degraded',
  /** GCP: the instance vanishes while it is made. */
  'vanishes',
  /** Takes `delayMs` longer. */
  'slow',
  /** Never ends until the engine cancels. */
  'hangs',
  /** It is done, and the answer is lost. */
  'lost_answer',
  /** GCP: the stop is DONE and the machine stays STOPPING for `delayMs` more. */
  'stop_lags',
] as const;

export type CloudFaultKind = (typeof CLOUD_FAULT_KINDS)[number];

export const CLOUD_OPERATIONS = ['create', 'read', 'update', 'delete', 'start', 'stop', 'invoke'] as const;
export type CloudOperation = (typeof CLOUD_OPERATIONS)[number];

export interface CloudFaultInput {
  kind: CloudFaultKind;
  package?: CloudPackage;
  /** A token (`aws:eks/nodeGroup:NodeGroup`) or its last part (`NodeGroup`). Absent: every type. */
  type?: string;
  /** The name in the program or the cloud's name or id. Absent: every one. */
  name?: string;
  /** Absent: create, and for stop_lags stop. */
  operation?: CloudOperation;
  /** How often it happens; absent: until it is removed. */
  times?: number;
  /** 0 to 1; absent: always. */
  probability?: number;
  delayMs?: number;
  code?: string;
  message?: string;
}

export interface CloudFault extends CloudFaultInput {
  id: string;
  hits: number;
}

export interface FaultOccasion {
  package: CloudPackage;
  type: string;
  names: readonly string[];
  operation: CloudOperation;
}

export interface CloudFaultBook {
  add(input: CloudFaultInput): CloudFault;
  remove(id: string): boolean;
  clear(): void;
  list(): CloudFault[];
  /** The first that fits, counted as used. */
  take(occasion: FaultOccasion): CloudFault | undefined;
}

export function createCloudFaultBook(
  seed: number,
  restored: readonly CloudFault[],
  onChange: (faults: CloudFault[]) => void,
): CloudFaultBook {
  let faults = [...restored];
  let serial = faults.reduce((highest, { id }) => Math.max(highest, Number(id.slice(2)) || 0), 0);
  const list = (): CloudFault[] => faults.map((fault) => ({ ...fault }));
  const change = (next: CloudFault[]): void => {
    faults = next;
    onChange(list());
  };
  return {
    add(input) {
      const fault = { ...input, id: `c-${++serial}`, hits: 0 };
      change([...faults, fault]);
      return { ...fault };
    },
    remove(id) {
      const kept = faults.filter((fault) => fault.id !== id);
      if (kept.length === faults.length) return false;
      change(kept);
      return true;
    },
    clear: () => change([]),
    list,
    take(occasion) {
      const fault = faults.find((one) => isMeant(one, occasion) && isDrawn(seed, one));
      if (!fault) return undefined;
      const hits = fault.hits + 1;
      const isUsedUp = fault.times !== undefined && hits >= fault.times;
      change(faults.flatMap((one) => (one !== fault ? [one] : isUsedUp ? [] : [{ ...one, hits }])));
      return fault;
    },
  };
}

function isMeant(fault: CloudFaultInput, { package: cloud, type, names, operation }: FaultOccasion): boolean {
  const wanted = fault.operation ?? (fault.kind === 'stop_lags' ? 'stop' : 'create');
  return (
    wanted === operation &&
    (fault.package === undefined || fault.package === cloud) &&
    (fault.type === undefined || fault.type === type || type.endsWith(`:${fault.type}`)) &&
    (fault.name === undefined || names.includes(fault.name))
  );
}

/** Each try of a fault is its own draw. */
function isDrawn(seed: number, fault: CloudFault & { tries?: number }): boolean {
  if (fault.probability === undefined) return true;
  fault.tries = (fault.tries ?? 0) + 1;
  return createRandom(seed, `${fault.id} ${fault.tries}`).next() < fault.probability;
}
