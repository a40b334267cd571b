import { describe, expect, it } from 'vitest';
import { keyOfRepositoryFile, mayDo } from '../../../domain/snapshots/repository-file.ts';
import { parseStoreUrl, storageCostMicroUsd } from '../../../domain/snapshots/store.ts';

const ACCOUNT = 'a'.repeat(32);

describe('the place of snapshots', () => {
  it.each<[string, object]>([
    ['file:///var/lib/snapshots/', { kind: 'file', path: '/var/lib/snapshots' }],
    ['file:///with%20blank', { kind: 'file', path: '/with blank' }],
    [
      's3://bucket/some/prefix?region=eu-west-1',
      { kind: 's3', bucket: 'bucket', prefix: 'some/prefix', endpoint: 'https://s3.eu-west-1.amazonaws.com' },
    ],
    ['s3://bucket?endpoint=http://127.0.0.1:7070', { kind: 's3', prefix: '', endpoint: 'http://127.0.0.1:7070' }],
    [
      `r2://bucket?account=${ACCOUNT}`,
      { kind: 'r2', region: 'auto', endpoint: `https://${ACCOUNT}.r2.cloudflarestorage.com` },
    ],
    ['b2://bucket?region=us-west-004', { kind: 'b2', endpoint: 'https://s3.us-west-004.backblazeb2.com' }],
    ['wasabi://bucket?region=eu-central-1', { kind: 'wasabi', endpoint: 'https://s3.eu-central-1.wasabisys.com' }],
  ])('%s is read', (text, expected) => {
    expect(parseStoreUrl(text)).toMatchObject(expected);
  });

  it.each([
    'bucket',
    'file://host/folder',
    'file:///',
    's3://key:secret@bucket',
    's3://bucket/a%20b',
    's3://bucket?unknown=1',
    's3://UPPER',
    's3://bucket:80',
    's3://bucket?endpoint=ftp://host',
    's3://bucket?endpoint=https://host/path',
    'r2://bucket',
    'r2://bucket?account=short',
    'b2://bucket',
    'gs://bucket',
  ])('%s is refused', (text) => {
    expect(parseStoreUrl(text)).toBeUndefined();
  });

  it('costs what the store asks for a GB and month, rounded down', () => {
    expect(storageCostMicroUsd('s3', 4_000_000_000n)).toBe(92_000n);
    expect(storageCostMicroUsd('b2', 1n)).toBe(0n);
    expect(storageCostMicroUsd('file', 10n ** 15n)).toBe(0n);
  });
});

describe('the files of a repository', () => {
  it('lie where restic itself puts them', () => {
    const name = `ab${'0'.repeat(62)}`;
    expect(keyOfRepositoryFile({ type: 'data', name })).toBe(`data/ab/${name}`);
    expect(keyOfRepositoryFile({ type: 'snapshots', name })).toBe(`snapshots/${name}`);
    expect(keyOfRepositoryFile({ type: 'config' })).toBe('config');
  });

  it('can be added but not changed or removed by a writer, and only read by a reader', () => {
    const types = ['config', 'keys', 'data', 'index', 'snapshots', 'locks'] as const;
    const allowed = (access: 'read' | 'write', deed: 'read' | 'add' | 'remove') =>
      types.filter((type) => mayDo(access, deed, type));
    expect(allowed('write', 'add')).toEqual(['data', 'index', 'snapshots', 'locks']);
    expect(allowed('write', 'remove')).toEqual(['locks']);
    expect(allowed('read', 'add')).toEqual([]);
    expect(allowed('read', 'remove')).toEqual([]);
    expect(allowed('read', 'read')).toEqual([...types]);
  });
});
