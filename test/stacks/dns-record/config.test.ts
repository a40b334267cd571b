import { describe, expect, it } from 'vitest';
import { dnsRecordConfigSchema } from '../../../stacks/dns-record/config.ts';

const VALID = { zoneId: 'Z0123456789ABCDEFGHIJ', hostname: 'train.example.com' };

describe('the configuration of a name', () => {
  it('leads nowhere until it is told where, and is believed for a minute', () => {
    expect(dnsRecordConfigSchema.parse(VALID)).toEqual({ ...VALID, ttl: 60, address: null, port: null });
  });

  it.each(['203.0.113.7', '2001:db8::7', 'ssh4.vast.ai'])('takes %s as an address', (address) => {
    expect(dnsRecordConfigSchema.parse({ ...VALID, address }).address).toBe(address);
  });

  it.each([
    ['a zone that is none', { zoneId: 'example.com' }, 'zoneId'],
    ['a name without a zone', { hostname: 'train' }, 'hostname'],
    ['a name with a dot at its end', { hostname: 'train.example.com.' }, 'hostname'],
    ['an address that is none', { address: 'no where' }, 'address'],
    ['a port that is none', { port: 0 }, 'port'],
    ['a lifetime of no time', { ttl: 0 }, 'ttl'],
  ])('refuses %s', (_what, change, path) => {
    const { error } = dnsRecordConfigSchema.safeParse({ ...VALID, ...change });
    expect(error?.issues.map((issue) => issue.path[0])).toContain(path);
  });
});
