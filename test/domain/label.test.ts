import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatId, toBase32 } from '../../domain/ids.ts';
import { DEPLOYMENT_ID_PATTERN, formatLabel, MAX_LABEL_LENGTH, readLabel, type LabelMac } from '../../domain/label.ts';

const macOf =
  (key: string): LabelMac =>
  (text) =>
    toBase32(createHmac('sha256', key).update(text).digest());
const mac = macOf('our key');
const attemptIds = fc.uint8Array({ minLength: 10, maxLength: 10 }).map((bytes) => formatId('attempt', bytes));
const deployments = fc
  .stringMatching(/^[a-z0-9][a-z0-9-]{1,18}[a-z0-9]$/)
  .filter((id) => DEPLOYMENT_ID_PATTERN.test(id));

describe('labels', () => {
  it('are ours with their attempt, fit every vendor, and use no other characters', () => {
    fc.assert(
      fc.property(deployments, attemptIds, (deployment, attemptId) => {
        const label = formatLabel(deployment, attemptId, mac);
        expect(label.length).toBeLessThanOrEqual(MAX_LABEL_LENGTH);
        expect(label).toMatch(/^[a-z0-9-]+$/);
        expect(readLabel(label, deployment, mac)).toEqual({ owner: 'ours', attemptId });
      }),
    );
  });

  it('of another deployment are foreign, also where one name starts with the other', () => {
    fc.assert(
      fc.property(deployments, deployments, attemptIds, (mine, theirs, attemptId) => {
        fc.pre(mine !== theirs);
        expect(readLabel(formatLabel(theirs, attemptId, mac), mine, mac)).toEqual({ owner: 'foreign' });
      }),
    );
    const label = formatLabel('lab-two', formatId('attempt', new Uint8Array(10)), mac);
    expect(readLabel(label, 'lab', mac)).toEqual({ owner: 'foreign' });
  });

  it('signed with another key are foreign', () => {
    fc.assert(
      fc.property(attemptIds, (attemptId) => {
        expect(readLabel(formatLabel('lab', attemptId, macOf('another key')), 'lab', mac)).toEqual({
          owner: 'foreign',
        });
      }),
    );
  });

  it('changed in a single character are foreign', () => {
    fc.assert(
      fc.property(
        attemptIds,
        fc.nat({ max: 62 }),
        fc.constantFrom('a', 'b', 'c', 'x', 'y', 'z', '2', '7', '-', 'A'),
        (attemptId, at, character) => {
          const label = formatLabel('lab', attemptId, mac);
          const position = at % label.length;
          const forged = label.slice(0, position) + character + label.slice(position + 1);
          fc.pre(forged !== label);
          expect(readLabel(forged, 'lab', mac)).toEqual({ owner: 'foreign' });
        },
      ),
    );
  });

  it('that people or other tools write are foreign', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(readLabel(text, 'lab', mac)).toEqual({ owner: 'foreign' });
      }),
    );
    for (const text of [
      null,
      '',
      'muster-lab-',
      'muster-lab--',
      'muster-ext-project-0123',
      'muster-lab-aaaaaaaaaaaaaaaa-',
    ]) {
      expect(readLabel(text, 'lab', mac)).toEqual({ owner: 'foreign' });
    }
  });

  it('with something appended are foreign', () => {
    const label = formatLabel('lab', formatId('attempt', new Uint8Array(10)), mac);
    for (const tail of ['-', '-x', 'a', ' ']) expect(readLabel(label + tail, 'lab', mac)).toEqual({ owner: 'foreign' });
  });
});
