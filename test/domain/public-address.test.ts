import { BlockList, isIP } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isPublicAddress, reachOfHost } from '../../domain/public-address.ts';

describe('a public address', () => {
  it.each([
    '8.8.8.8',
    '1.1.1.1',
    '100.63.255.255',
    '172.32.0.1',
    '192.169.0.1',
    '223.255.255.255',
    '2606:4700::1111',
    '2a00:1450:4001::200e',
    '::ffff:8.8.8.8',
    '[2606:4700::1111]',
  ])('is %s', (address) => expect(isPublicAddress(address)).toBe(true));

  it.each([
    '127.0.0.1',
    '127.255.255.254',
    '0.0.0.0',
    '10.1.2.3',
    '100.64.0.1',
    '169.254.169.254',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.1.1',
    '198.18.0.1',
    '203.0.113.7',
    '224.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::ffff:127.0.0.1',
    '::ffff:a9fe:a9fe',
    '::127.0.0.1',
    '64:ff9b::7f00:1',
    'fe80::1',
    'fe80::1%eth0',
    'fc00::1',
    'fd00:ec2::254',
    'ff02::1',
    '2001::1',
    '2001:db8::1',
    '2002:7f00:1::',
    '[::1]',
    'localhost',
    '',
    '1.2.3',
    '256.1.1.1',
    '1:2:3:4:5:6:7',
    ':::',
    '2606:4700:::1',
  ])('is not %s', (address) => expect(isPublicAddress(address)).toBe(false));

  it('is judged as the platform parses it, in any notation', () => {
    const closed = new BlockList();
    closed.addSubnet('10.0.0.0', 8);
    fc.assert(
      fc.property(fc.ipV4(), (address) => {
        if (closed.check(address)) expect(isPublicAddress(address)).toBe(false);
        expect(isPublicAddress(`::ffff:${address}`)).toBe(isPublicAddress(address));
      }),
    );
    fc.assert(
      fc.property(fc.ipV6(), (address) => {
        expect(isIP(address)).toBe(6);
        // The URL parser's normal form is the same address.
        expect(isPublicAddress(new URL(`http://[${address}]/`).hostname)).toBe(isPublicAddress(address));
      }),
    );
  });
});

describe('the reach of a host', () => {
  it.each([
    ['localhost', 'self'],
    ['muster.localhost', 'self'],
    ['127.0.0.9', 'self'],
    ['0.0.0.0', 'self'],
    ['[::1]', 'self'],
    ['[::]', 'self'],
    ['10.1.2.3', 'private'],
    ['[fd12::1]', 'private'],
    ['control', 'private'],
    ['Box.Local.', 'private'],
    ['8.8.8.8', 'public'],
    ['[2606:4700::1111]', 'public'],
    ['muster.example.com', 'public'],
    ['127.example.com', 'public'],
  ] as const)('of %s is %s', (host, reach) => expect(reachOfHost(host)).toBe(reach));
});
