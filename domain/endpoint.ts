/**
 * An endpoint: where the workload of an instance is reached now, whatever machine or standby that is. Its address changes with each
 * failover, hibernation and wake; where to ask for it does not.
 */

/** `none`: nobody serves it at this moment. */
export const ENDPOINT_KINDS = ['instance', 'standby', 'none'] as const;
export type EndpointKind = (typeof ENDPOINT_KINDS)[number];

export type Endpoint =
  { kind: 'instance' | 'standby'; host: string; port: number; user: string; nodeId: string | null } | { kind: 'none' };
