import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseSmiCsv } from '../../../agent/gpu/smi-csv.ts';
import { describeFailure } from '../../../agent/gpu/smi-failure.ts';
import { parseSmiList } from '../../../agent/gpu/smi-list.ts';
import { readAmount, readBits, readNumber, readText, readYesNo } from '../../../agent/gpu/smi-value.ts';
import { parseSmiXml, parseXml } from '../../../agent/gpu/smi-xml.ts';
import { asResult, exited, failures, fixture, FIXTURE_FIELDS } from './fixtures.ts';

const NO_VALUES = [
  '[N/A]',
  'N/A',
  '[Not Supported]',
  '[Requested functionality has been deprecated]',
  '[Function Not Found]',
  '[Insufficient Permissions]',
  '[Unknown Error]',
  '[GPU is lost]',
  '[GPU requires reset]',
  'No data',
  '',
  '  ',
  '[n/a]',
];

describe('a value of nvidia-smi', () => {
  it.each(NO_VALUES)('"%s" is null, never 0', (raw) => {
    expect(readText(raw)).toBeNull();
    expect(readNumber(raw)).toBeNull();
    expect(readAmount(raw)).toBeNull();
  });

  it('loses its unit', () => {
    expect(['81559 MiB', '69.85 W', '0 %', '41', '345 MHz'].map(readNumber)).toEqual([81559, 69.85, 0, 41, 345]);
  });

  it('that cannot be read is null', () => {
    for (const raw of ['ERR!', '12 apples', '1e3', '0x10', '--', '12MiB34', 'NaN', 'Infinity']) {
      expect(readNumber(raw), raw).toBeNull();
    }
    expect(readAmount('-1')).toBeNull();
    expect(readBits('0x0000000000000068')).toBe(0x68);
    expect(readBits('[N/A]')).toBeNull();
    expect([readYesNo('Yes'), readYesNo('No'), readYesNo('[N/A]')]).toEqual([true, false, null]);
  });

  it('is a finite number or null, whatever the text', () => {
    fc.assert(
      fc.property(fc.string(), (raw) => {
        const value = readNumber(raw);
        expect(value === null || Number.isFinite(value)).toBe(true);
        // Only a text that says 0 is 0.
        if (value === 0) expect(raw).toMatch(/0/);
      }),
    );
  });
});

describe('the CSV table', () => {
  it.each([
    ['healthy-2xh100.csv', 2],
    ['consumer.csv', 1],
    ['gpu-lost.csv', 1],
    ['mig.csv', 1],
    ['unknown-error.csv', 1],
  ])('%s is read by position, its header skipped', (name, count) => {
    const rows = parseSmiCsv(fixture(name), FIXTURE_FIELDS);
    expect(rows).toHaveLength(count);
    expect(rows?.[0]?.['uuid']).toMatch(/^GPU-/);
    expect(rows?.[0]?.['index']).toBe('0');
  });

  it('is read without a header and with warnings between the rows', () => {
    const text = '0, GPU-1\nWARNING: infoROM is corrupted at gpu 0000:00:09.0\n1, GPU-2\n';
    expect(parseSmiCsv(text, ['index', 'uuid'])).toEqual([
      { index: '0', uuid: 'GPU-1' },
      { index: '1', uuid: 'GPU-2' },
    ]);
  });

  it('is not known as a whole when a line is none of it, or there is no row', () => {
    expect(parseSmiCsv('0, GPU-1\nsomething else', ['index', 'uuid'])).toBeNull();
    expect(parseSmiCsv('', ['index'])).toBeNull();
    expect(parseSmiCsv('index\n', ['index'])).toBeNull();
  });
});

describe('the list', () => {
  it('has each MIG device under its GPU', () => {
    expect(parseSmiList(fixture('mig-L.txt'))).toEqual([
      {
        index: 0,
        name: 'NVIDIA H100 80GB HBM3',
        uuid: 'GPU-11111111-1111-4111-8111-111111111111',
        migDevices: [
          { index: 0, profile: '3g.40gb', uuid: 'MIG-aaaaaaaa-aaaa-5aaa-8aaa-aaaaaaaaaaaa' },
          { index: 1, profile: '1g.10gb', uuid: 'MIG-bbbbbbbb-bbbb-5bbb-8bbb-bbbbbbbbbbbb' },
        ],
      },
    ]);
  });

  it('is null where it is something else', () => {
    for (const text of ['', 'No devices were found\n', '  MIG 1g.10gb     Device  0: (UUID: MIG-1)\n']) {
      expect(parseSmiList(text)).toBeNull();
    }
  });
});

describe('the XML report', () => {
  it('gives values under the names of the query, MIG devices and the driver', () => {
    const report = parseSmiXml(fixture('mig-min.xml'));
    expect(report?.driverVersion).toBe('550.90.07');
    expect(report?.gpus).toHaveLength(1);
    expect(report?.gpus[0]).toMatchObject({
      busId: '00000000:00:09.0',
      fields: {
        uuid: 'GPU-11111111-1111-4111-8111-111111111111',
        name: 'NVIDIA H100 80GB HBM3',
        'memory.total': '81559 MiB',
        'utilization.gpu': 'N/A',
        'power.draw': '98.10 W',
        'mig.mode.current': 'Enabled',
      },
      migDevices: [
        { index: 0, memoryTotalMib: 40448, memoryUsedMib: 26 },
        { index: 1, memoryTotalMib: 9984, memoryUsedMib: 9 },
      ],
    });
  });

  it('passes a document type over, with an internal subset too, and loads nothing for it', () => {
    const text =
      '<?xml version="1.0"?><!DOCTYPE x SYSTEM "file:///etc/passwd" [<!ENTITY a SYSTEM "file:///etc/passwd">]><x a="1">&a;&lt;</x>';
    expect(parseXml(text)).toMatchObject({ name: 'x', attributes: { a: '1' }, text: '&a;&lt;' });
  });

  it('is null where it is not well-formed, not whole, or too deep', () => {
    const whole = fixture('mig-min.xml');
    for (const text of [
      '',
      'Failed',
      '<nvidia_smi_log>',
      '<nvidia_smi_log></nvidia_smi_log>',
      `${whole}x`,
      whole.slice(0, -20),
      whole.replace('</gpu>', '</cpu>'),
      '<a>'.repeat(100) + '</a>'.repeat(100),
    ]) {
      expect(parseSmiXml(text)).toBeNull();
    }
  });
});

describe('any garbage', () => {
  const pieces = fc.array(
    fc.oneof(
      fc.string(),
      fc.constantFrom(
        '<gpu>',
        '</gpu>',
        '<a b="c">',
        '[N/A]',
        ', ',
        '\n',
        'GPU 0: x (UUID: GPU-1)',
        '<!DOCTYPE',
        '&amp;',
      ),
      fc.constantFrom(...['healthy-2xh100.csv', 'mig-min.xml', 'mig-L.txt'].map(fixture)),
    ),
    { maxLength: 12 },
  );

  it('never throws, and is never read as a machine without GPUs', () => {
    fc.assert(
      fc.property(pieces, fc.nat(), (parts, cut) => {
        const whole = parts.join('');
        for (const text of [whole, whole.slice(0, cut % (whole.length + 1))]) {
          expect(parseSmiCsv(text, FIXTURE_FIELDS)?.length ?? 1).toBeGreaterThan(0);
          expect(parseSmiList(text)?.length ?? 1).toBeGreaterThan(0);
          expect(parseSmiXml(text)?.gpus.length ?? 1).toBeGreaterThan(0);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('a failure', () => {
  it.each(failures.map((one) => [`${one.rc} ${one.stdout ?? one.stderr ?? 'hang'}`.trim(), one] as const))(
    '%s is told from a reading',
    (_name, failure) => {
      const described = describeFailure(asResult(failure), 10_000);
      expect(described?.reason).toMatch(/./);
      expect(described?.verdict).toBe(failure.rc === 2 || failure.rc === 127 ? 'unknown' : 'failed');
    },
  );

  it('counts by its text where the exit code says that all is well', () => {
    expect(describeFailure(exited(0, 'No devices were found\n'), 10_000)).toMatchObject({ kind: 'no_devices' });
    expect(describeFailure(exited(0, '0, NVIDIA L40S\n'), 10_000)).toBeNull();
  });

  it('counts by its code where the text is not known', () => {
    expect(describeFailure(exited(15, ''), 10_000)).toMatchObject({ verdict: 'failed', kind: 'gpu_lost' });
    expect(describeFailure(exited(77, 'hm'), 10_000)).toMatchObject({
      verdict: 'failed',
      reason: 'nvidia-smi ended with 77',
    });
    expect(describeFailure(exited(4, ''), 10_000)).toMatchObject({ verdict: 'unknown' });
  });
});
