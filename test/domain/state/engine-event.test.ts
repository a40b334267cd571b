import { describe, expect, it } from 'vitest';
import { tellEngineEvent } from '../../../domain/state/engine-event.ts';

const SECRET = 'swordfish';
const metadata = {
  op: 'update',
  urn: 'urn:pulumi:s::p::aws:ec2/vpc:Vpc::a::b',
  type: 'aws:ec2/vpc:Vpc',
  old: { id: 'vpc-1', inputs: { key: SECRET } },
  new: { id: 'vpc-1', inputs: { key: SECRET }, outputs: { key: SECRET } },
  diffs: ['tags'],
  detailedDiff: { 'tags.b': {}, 'tags.a': {} },
};

describe('what an event of the engine tells', () => {
  it('of a resource is what is done to it and which properties change, never their values', () => {
    const told = tellEngineEvent({ sequence: 1, resOutputsEvent: { metadata } });
    expect(told).toEqual({
      type: 'resource',
      resource: 'a::b',
      data: {
        resource: 'a::b',
        urn: metadata.urn,
        type: metadata.type,
        op: 'update',
        status: 'done',
        id: 'vpc-1',
        changed: ['tags.a', 'tags.b'],
      },
    });
    expect(JSON.stringify(told)).not.toContain(SECRET);
  });

  it.each([
    ['begun', { resourcePreEvent: { metadata } }, 'started'],
    ['planned', { resourcePreEvent: { metadata, planning: true } }, 'planned'],
    ['failed', { resOpFailedEvent: { metadata, status: 1, steps: 1 } }, 'failed'],
  ])('says that it is %s', (_what, event, status) => {
    expect(tellEngineEvent(event)?.data).toMatchObject({ status });
  });

  it('of a deleted one names it by the id that it had', () => {
    const gone = { ...metadata, op: 'delete', new: null, detailedDiff: null, diffs: null };
    expect(tellEngineEvent({ resOutputsEvent: { metadata: gone } })?.data).toMatchObject({ id: 'vpc-1', changed: [] });
  });

  it.each([
    ['what stays as it is', { resOutputsEvent: { metadata: { ...metadata, op: 'same' } } }],
    ['the stack itself', { resourcePreEvent: { metadata: { ...metadata, type: 'pulumi:pulumi:Stack' } } }],
    ['a provider', { resourcePreEvent: { metadata: { ...metadata, type: 'pulumi:providers:aws' } } }],
    ['the second half of a plan', { resOutputsEvent: { metadata, planning: true } }],
    ['what a program prints', { stdoutEvent: { message: SECRET } }],
    ['what is only information', { diagnosticEvent: { message: SECRET, severity: 'info#err' } }],
    ['the configuration', { preludeEvent: { config: { key: SECRET } } }],
    ['what a later engine may send', { somethingNewEvent: {} }],
    ['a step without an urn', { resourcePreEvent: { metadata: {} } }],
    ['a step without anything', { resourcePreEvent: {} }],
  ])('is nothing of %s', (_what, event) => {
    expect(tellEngineEvent(event)).toBeNull();
  });

  it('of trouble is its words without colours, cut where they are many', () => {
    const message = `<{%fg 1%}>error:<{%reset%}> ${'x'.repeat(3000)}\n`;
    const told = tellEngineEvent({ diagnosticEvent: { message, severity: 'error', urn: metadata.urn } });
    expect(told).toMatchObject({ type: 'diagnostic', resource: 'a::b', data: { severity: 'error' } });
    expect(told?.data['message']).toMatch(/^error: x{1993}$/);
  });

  it('at the end is the sum', () => {
    const event = { summaryEvent: { resourceChanges: { create: 2 }, durationSeconds: 3 } };
    expect(tellEngineEvent(event)).toEqual({
      type: 'summary',
      resource: null,
      data: { changes: { create: 2 }, seconds: 3 },
    });
  });
});
