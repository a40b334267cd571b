/**
 * What a watcher of an operation sees: a pure fold of the operation's events into lines. How they reach the screen is watch-operation.ts's.
 */
import type { OperationEvent } from '../api/contract/operations.ts';
import { formatSpan } from './format.ts';

export interface Progress {
  readonly status: string;
  /** The last sentence about the whole. */
  readonly note: string | null;
  /** One line for each resource of the engine and each instance with news, in the order of their appearance. */
  readonly resources: ReadonlyMap<string, string>;
}

export const NO_PROGRESS: Progress = { status: 'queued', note: null, resources: new Map() };

/** Adds one event; unknown types of a newer server change nothing but the note, if they carry a message. */
export function applyEvent(progress: Progress, event: OperationEvent): Progress {
  if (event.type === 'status') {
    return { ...progress, status: text(event.data['status']) ?? progress.status, note: describeEvent(event) };
  }
  if (event.type === 'resource') {
    const key = text(event.data['resource']) ?? '?';
    return { ...progress, resources: new Map(progress.resources).set(key, describeResource(event.data)) };
  }
  if (event.type === 'instance') {
    const key = text(event.data['instanceId']) ?? '?';
    return { ...progress, resources: new Map(progress.resources).set(key, describeEvent(event) ?? key) };
  }
  return { ...progress, note: describeEvent(event) ?? progress.note };
}

/** One event as a line for a log; null where it says nothing to people. */
export function describeEvent(event: Pick<OperationEvent, 'type' | 'data'>): string | null {
  const { data } = event;
  switch (event.type) {
    case 'status': {
      const error = data['error'] as { code?: unknown; detail?: unknown } | undefined;
      const reason = error ? `: ${text(error.detail) ?? ''} (${text(error.code) ?? 'no code'})` : '';
      return `${text(data['status']) ?? 'status'}${reason}`;
    }
    case 'resource':
      return describeResource(data);
    case 'instance':
      return `${text(data['instanceId']) ?? 'an instance'} is ${text(data['status']) ?? 'changed'}`;
    case 'failover':
      return `${text(data['failoverId']) ?? 'a failover'} is ${text(data['phase']) ?? 'changed'}`;
    case 'cancel_requested':
      return `cancel requested: ${text(data['reason']) ?? 'no reason given'}`;
    case 'retry':
      return `trying again in ${formatSpan(Number(data['afterMs'] ?? 0))}: ${text(data['note']) ?? 'no reason given'}`;
    default:
      return text(data['message']) ?? text(data['note']) ?? text(data['detail']);
  }
}

/** "creating ins_… by att_…", "created ins_… by att_… as 70001". */
function describeResource(data: Record<string, unknown>): string {
  const op = text(data['op']) ?? 'change';
  const status = text(data['status']);
  const verb = VERBS[status ?? '']?.(op) ?? present(op);
  const attempt = text(data['resource']) ?? '?';
  const instance = text(data['instanceId']);
  const providerId = text(data['providerInstanceId']) ?? text(data['id']);
  return [
    verb,
    instance === null ? attempt : `${instance} by ${attempt}`,
    ...(providerId !== null && status === 'done' && !op.startsWith('delete') ? [`as ${providerId}`] : []),
  ].join(' ');
}

const VERBS: Record<string, (op: string) => string> = {
  planned: (op) => `would ${op}`,
  done: past,
  failed: (op) => `failed to ${op}`,
};

function present(op: string): string {
  return op === 'same' ? 'keeping' : `${op.replace(/e$/, '')}ing`;
}

function past(op: string): string {
  if (op === 'same') return 'kept';
  return op === 'read' ? 'read' : `${op.replace(/e$/, '')}ed`;
}

function text(value: unknown): string | null {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : null;
}
