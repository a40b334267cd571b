import { beforeEach, describe, expect, it } from 'vitest';
import { DnsRecord, type DnsRecordArgs } from '../../components/dns-record.ts';
import { mockEngine, type MockEngine } from '../support/mock-engine.ts';

const RECORD = 'aws:route53/record:Record';

let engine: MockEngine;
beforeEach(async () => {
  engine = await mockEngine();
});

async function make(args: Partial<DnsRecordArgs>) {
  new DnsRecord('train', { zoneId: 'Z1', hostname: 'train.example.com', ...args });
  await engine.settle();
  return engine.registered.filter(({ type }) => type === RECORD).map(({ inputs }) => inputs);
}

describe('a name', () => {
  it.each([
    ['203.0.113.7', 'A'],
    ['2001:db8::7', 'AAAA'],
    ['ssh4.vast.ai', 'CNAME'],
  ])('that leads to %s is of type %s', async (address, type) => {
    expect(await make({ address })).toMatchObject([{ type, records: [address], ttl: 60, name: 'train.example.com' }]);
  });

  it('tells the port beside it', async () => {
    const records = await make({ address: '203.0.113.7', port: 22_022 });
    expect(records.find(({ type }) => type === 'SRV')).toMatchObject({
      name: '_ssh._tcp.train.example.com',
      records: ['0 0 22022 train.example.com.'],
    });
  });

  it('that leads nowhere is not there', async () => {
    expect(await make({ port: 22 })).toEqual([]);
  });
});
