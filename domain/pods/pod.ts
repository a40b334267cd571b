/**
 * A pod: one container workload that is to run on one node. What is wanted of it is declared and carried out by the node's agent, however
 * often either side starts anew; this is what it may be, and what follows from what an agent says. Where it is placed is schedule.ts's.
 *
 *   pending      no node has it: none fits, or it waits for one → scheduled | stopped | removed
 *   scheduled    a node has it, whose agent has said nothing of it yet → pulling | starting | running | …
 *   pulling      its image is being fetched → starting | failed
 *   starting     its container is being made, or its health check has not passed yet → running | restarting | exited | failed
 *   running      it runs → restarting | exited | failed | stopping
 *   restarting   it ended, and its restart policy starts it again → running | exited | failed
 *   exited       it ended with 0 and is not started again → scheduled (started again by a person)
 *   failed       it ended with something else, or could not be started → scheduled (likewise)
 *   stopping     a person stops it → stopped
 *   stopped      → scheduled
 *   lost         its node was lost, and its policy is to stay so → scheduled
 *   removing     it is being deleted → removed
 *   removed      the end: its agent said that nothing of it is left, or its machine is gone
 *
 * A **run** is one life of its container: each start, restart and move is another run, with a new container from the image. What a
 * node says of an earlier run, or says without having the pod, counts for nothing.
 */
export const POD_STATUSES = [
  'pending',
  'scheduled',
  'pulling',
  'starting',
  'running',
  'restarting',
  'exited',
  'failed',
  'stopping',
  'stopped',
  'lost',
  'removing',
  'removed',
] as const;
export type PodStatus = (typeof POD_STATUSES)[number];

/** What a person wants of it. */
export const POD_DESIRED_STATES = ['running', 'stopped', 'removed'] as const;
export type PodDesiredState = (typeof POD_DESIRED_STATES)[number];

/** What an agent may say of one. */
export const POD_REPORT_STATUSES = [
  'pulling',
  'starting',
  'running',
  'restarting',
  'exited',
  'failed',
  'stopping',
  'stopped',
  'removed',
] as const;
export type PodReportStatus = (typeof POD_REPORT_STATUSES)[number];

export const RESTART_POLICIES = ['never', 'on_failure', 'always'] as const;
export type RestartPolicy = (typeof RESTART_POLICIES)[number];

/** What becomes of it when its node is lost or drained. */
export const NODE_LOSS_POLICIES = ['reschedule', 'stop'] as const;
export type NodeLossPolicy = (typeof NODE_LOSS_POLICIES)[number];

export const POD_HEALTHS = ['starting', 'healthy', 'unhealthy'] as const;
export type PodHealth = (typeof POD_HEALTHS)[number];

export const PORT_PROTOCOLS = ['tcp', 'udp'] as const;

export interface PodPort {
  containerPort: number;
  /** On the node; null: the engine takes a free one, which the agent reports. */
  hostPort: number | null;
  protocol: (typeof PORT_PROTOCOLS)[number];
}

export interface PublishedPort {
  containerPort: number;
  hostPort: number;
  protocol: PodPort['protocol'];
}

export type PodMount =
  /** A folder below the node's workspace; `path` '' is the workspace itself. Nothing else of the node can be mounted. */
  | { kind: 'workspace'; path: string; target: string; isReadOnly: boolean }
  /** Kept by the engine under the pod's own name, for as long as the pod is on that node. */
  | { kind: 'volume'; name: string; target: string; isReadOnly: boolean };

export type PodHealthProbe =
  /** Run in the container, by the engine. */
  | { kind: 'command'; command: string[] }
  /** By the agent, at the port of the node that the container's port is published as. */
  | { kind: 'tcp'; port: number }
  | { kind: 'http'; port: number; path: string };

export interface PodHealthCheck {
  probe: PodHealthProbe;
  intervalSeconds: number;
  timeoutSeconds: number;
  /** Failures in a row that make it unhealthy. */
  retries: number;
  /** Failures within it count for nothing. */
  startPeriodSeconds: number;
}

export interface PodResources {
  cpus: number | null;
  memoryMib: number | null;
  shmMib: number | null;
  maxProcesses: number;
}

/** What is to run: everything an agent needs but secrets. */
export interface PodSpec {
  image: string;
  /** Replaces the image's entry point; null: the image's. */
  command: string[] | null;
  args: string[] | null;
  env: Record<string, string>;
  workingDir: string | null;
  user: string | null;
  ports: PodPort[];
  mounts: PodMount[];
  restartPolicy: RestartPolicy;
  /** null: without end. */
  maxRestarts: number | null;
  healthCheck: PodHealthCheck | null;
  resources: PodResources;
  stopGraceSeconds: number;
}

export const LOG_STREAMS = ['stdout', 'stderr'] as const;

export interface LogLine {
  /** As the engine wrote it, to the nanosecond: it names the line when reading goes on. */
  at: string;
  stream: (typeof LOG_STREAMS)[number];
  text: string;
}

/** What it needs of a node. */
export interface PodRequirements {
  nodeId: string | null;
  /** Only a node of that instance, whichever machine that is at the time. */
  instanceId: string | null;
  gpuCount: number;
  gpuModel: string | null;
  minGpuMemoryGib: number | null;
  /** Each must be on the node with that value. */
  labels: Record<string, string>;
}

const HOLDING: ReadonlySet<PodStatus> = new Set([
  'scheduled',
  'pulling',
  'starting',
  'running',
  'restarting',
  'stopping',
  'removing',
]);

/** Whether it takes up what it asked for on its node. */
export function isHolding(pod: { status: PodStatus; nodeId: string | null }): boolean {
  return pod.nodeId !== null && HOLDING.has(pod.status);
}

export type PodVerb = 'start' | 'stop' | 'restart' | 'delete';

/** What a person may ask of it now. */
export function allowedPodActions(pod: { status: PodStatus; desired: PodDesiredState }): PodVerb[] {
  if (pod.desired === 'removed') return [];
  // What still ends has its place until it has.
  if (pod.status === 'stopping') return ['delete'];
  if (pod.desired === 'stopped') return ['start', 'delete'];
  const isAtRest = pod.status === 'exited' || pod.status === 'failed' || pod.status === 'lost';
  return isAtRest ? ['start', 'restart', 'delete'] : ['stop', 'restart', 'delete'];
}

export interface KnownPod {
  status: PodStatus;
  desired: PodDesiredState;
  run: number;
  nodeId: string | null;
  /** It is to leave its node for another. */
  isLeaving: boolean;
}

export interface SaidOfPod {
  run: number;
  status: PodReportStatus;
}

/**
 * What a report of its node's agent makes of it: a status, `leave` (nothing of it is left there: it may be placed elsewhere), or null where the
 * report counts for nothing.
 */
export function applyPodReport(pod: KnownPod, nodeId: string, said: SaidOfPod): PodStatus | 'leave' | null {
  if (pod.nodeId !== nodeId || pod.status === 'removed' || pod.status === 'lost') return null;
  if (said.status === 'removed') {
    if (pod.desired === 'removed') return 'removed';
    return pod.isLeaving ? 'leave' : null;
  }
  if (pod.desired === 'removed') return 'removing';
  if (said.run !== pod.run) return null;
  // A run that has ended is never taken up again: whoever says so was overtaken.
  if (pod.status === 'exited' || pod.status === 'failed') return null;
  if (pod.desired === 'stopped') {
    const isOver = said.status === 'stopped' || said.status === 'exited' || said.status === 'failed';
    return isOver ? 'stopped' : 'stopping';
  }
  // It is to run again, and its agent has not heard of that.
  if (said.status === 'stopped' || said.status === 'stopping') return pod.isLeaving ? pod.status : null;
  return said.status;
}
