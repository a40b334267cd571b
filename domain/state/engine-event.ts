/**
 * An event of the engine, as its CLI sends it, and what it tells people: a resource that is planned, begun, done or failed, a warning or an error, the
 * sum at the end. Values of resources are told to nobody here, secret or not; what a program prints is not told either.
 */
import { isBookkeeping, parseUrn } from './urn.ts';

export const TOLD_TYPES = ['resource', 'diagnostic', 'summary'] as const;
export type ToldType = (typeof TOLD_TYPES)[number];

export interface ToldEvent {
  type: ToldType;
  data: Record<string, unknown>;
  /** The last part of the urn of what it is about; null: of the whole. */
  resource: string | null;
}

interface StepMetadata {
  op: string;
  urn: string;
  type: string;
  old?: { id?: string } | null;
  new?: { id?: string } | null;
  diffs?: string[] | null;
  detailedDiff?: Record<string, unknown> | null;
}
interface Step {
  metadata: StepMetadata;
  planning?: boolean;
}
interface EngineEvent {
  resourcePreEvent?: Step;
  resOutputsEvent?: Step;
  resOpFailedEvent?: Step;
  diagnosticEvent?: { urn?: string; message: string; severity: string };
  summaryEvent?: { resourceChanges?: Record<string, number>; durationSeconds?: number; result?: string };
}

/** Longer ones are cut: an error may quote a whole document. */
const MAX_MESSAGE = 2_000;

/** null: it tells people nothing. An event of a shape that is not known tells nothing. */
export function tellEngineEvent(event: object): ToldEvent | null {
  const { resourcePreEvent, resOutputsEvent, resOpFailedEvent, diagnosticEvent, summaryEvent } = event as EngineEvent;
  if (resourcePreEvent) return tellStep(resourcePreEvent, 'started');
  if (resOutputsEvent) return tellStep(resOutputsEvent, 'done');
  if (resOpFailedEvent) return tellStep(resOpFailedEvent, 'failed');
  if (diagnosticEvent) return tellDiagnostic(diagnosticEvent);
  if (!summaryEvent) return null;
  const { resourceChanges = {}, durationSeconds = 0 } = summaryEvent;
  return { type: 'summary', data: { changes: resourceChanges, seconds: durationSeconds }, resource: null };
}

function tellStep({ metadata, planning }: Step, step: 'started' | 'done' | 'failed'): ToldEvent | null {
  // A plan says of each resource what would be done, once; that it looks at what it refreshes is no plan.
  if (planning === true && (step === 'done' || metadata?.op === 'refresh')) return null;
  // What stays as it is is no news, and the engine's own bookkeeping is no resource of anybody's.
  if (typeof metadata?.urn !== 'string' || metadata.op === 'same' || isBookkeeping(metadata.type)) return null;
  const { op, urn, type, old, new: next, detailedDiff, diffs } = metadata;
  const resource = parseUrn(urn).name;
  const changed = detailedDiff ? Object.keys(detailedDiff) : (diffs ?? []);
  const id = next?.id || old?.id || null;
  const status = planning === true && step === 'started' ? 'planned' : step;
  return {
    type: 'resource',
    data: { resource, urn, type, op, status, id, changed: changed.sort() },
    resource,
  };
}

function tellDiagnostic({ urn, message, severity }: NonNullable<EngineEvent['diagnosticEvent']>): ToldEvent | null {
  if ((severity !== 'error' && severity !== 'warning') || typeof message !== 'string') return null;
  const resource = urn ? parseUrn(urn).name : null;
  const text = message.replaceAll(/<\{%[^%]*%\}>/g, '').trim();
  return { type: 'diagnostic', data: { severity, message: text.slice(0, MAX_MESSAGE), resource }, resource };
}
