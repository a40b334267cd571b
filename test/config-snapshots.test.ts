import { describe, expect, it } from 'vitest';
import { ConfigError, loadConfig } from '../config.ts';

function problemsOf(env: Record<string, string>): string[] {
  try {
    loadConfig(env);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map(({ variable }) => variable);
  }
}

const KEY = {
  MUSTER_SNAPSHOT_ACCESS_KEY_ID: 'AKIDEXAMPLE',
  MUSTER_SNAPSHOT_SECRET_ACCESS_KEY: 'a-secret-of-the-store',
};

describe('the settings of snapshots', () => {
  it('are a folder of the data directory where nothing is said', () => {
    const { snapshots } = loadConfig({ MUSTER_DATA_DIR: '/some where/data' });
    expect(snapshots).toMatchObject({ url: 'file:///some%20where/data/snapshots', key: null, access: 'gateway' });
  });

  it('never print the secret', () => {
    const config = loadConfig({ MUSTER_SNAPSHOT_URL: 's3://bucket?region=eu-west-1', ...KEY });
    expect(config.snapshots.key?.secretAccessKey.reveal()).toBe('a-secret-of-the-store');
    expect(JSON.stringify(config)).not.toContain('a-secret-of-the-store');
  });

  it.each<[string, Record<string, string>, string[]]>([
    ['a place that is none', { MUSTER_SNAPSHOT_URL: 'ftp://host' }, ['MUSTER_SNAPSHOT_URL']],
    ['a place with a secret in it', { MUSTER_SNAPSHOT_URL: 's3://key:secret@bucket' }, ['MUSTER_SNAPSHOT_URL']],
    [
      'a bucket without its key',
      { MUSTER_SNAPSHOT_URL: 's3://bucket' },
      ['MUSTER_SNAPSHOT_ACCESS_KEY_ID', 'MUSTER_SNAPSHOT_SECRET_ACCESS_KEY'],
    ],
    [
      'keys for nodes without the role that they are of',
      { MUSTER_SNAPSHOT_URL: 's3://bucket', MUSTER_SNAPSHOT_ACCESS: 'direct', ...KEY },
      ['MUSTER_SNAPSHOT_ROLE_ARN'],
    ],
    [
      'keys for nodes at R2 without the token that makes them',
      { MUSTER_SNAPSHOT_URL: `r2://bucket?account=${'a'.repeat(32)}`, MUSTER_SNAPSHOT_ACCESS: 'direct', ...KEY },
      ['MUSTER_SNAPSHOT_API_TOKEN'],
    ],
    [
      'nothing at B2, whose key makes others',
      { MUSTER_SNAPSHOT_URL: 'b2://bucket?region=us-west-004', MUSTER_SNAPSHOT_ACCESS: 'direct', ...KEY },
      [],
    ],
  ])('refuse %s', (_, env, expected) => {
    expect(problemsOf(env)).toEqual(expected);
  });
});
