/**
 * Public addresses: which IP addresses belong to the internet at large. What we send on others' behalf (webhooks) must not reach the
 * networks that we stand in: their databases, their metadata services, ourselves. After IANA's special-purpose registries.
 */

/** Ranges of IPv4 that are not public: first address and prefix length. */
const CLOSED_V4: readonly [string, number][] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3],
];

/** Within 2000::/3, beside which nothing of IPv6 is public: protocol assignments (Teredo among them), examples, 6to4. */
const CLOSED_V6: readonly [string, number][] = [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
];

/**
 * From where a URL's host can be reached, as far as its text says (nothing is looked up): `self` from this machine only, `private` from
 * networks like ours, `public` from everywhere. IPv6 with or without brackets.
 */
export function reachOfHost(host: string): 'self' | 'private' | 'public' {
  const name = host
    .toLowerCase()
    .replace(/^\[|\]$/g, '')
    .replace(/\.$/, '');
  if (/^(localhost|.*\.localhost|127(\.\d+){3}|0\.0\.0\.0|::1?|::ffff:(127\.|7f).*)$/.test(name)) return 'self';
  const isAddress = parseV4(name) !== null || name.includes(':');
  if (isAddress) return isPublicAddress(name) ? 'public' : 'private';
  return !name.includes('.') || /\.(local|internal|lan|home\.arpa)$/.test(name) ? 'private' : 'public';
}

/** false for every address that is not public, and for text that is no address (a name must be looked up first). */
export function isPublicAddress(text: string): boolean {
  const v4 = parseV4(text);
  if (v4 !== null) return isPublicV4(v4);
  const v6 = parseV6(text.replace(/^\[|\]$/g, '').replace(/%.*$/, ''));
  if (v6 === null) return false;
  // An IPv4 address in IPv6's clothes is what it wraps.
  if (v6 >> 32n === 0xffffn) return isPublicV4(v6 & 0xffff_ffffn);
  if (!isWithin(v6, parseV6('2000::') as bigint, 3, 128)) return false;
  return !CLOSED_V6.some(([first, length]) => isWithin(v6, parseV6(first) as bigint, length, 128));
}

function isPublicV4(address: bigint): boolean {
  return !CLOSED_V4.some(([first, length]) => isWithin(address, parseV4(first) as bigint, length, 32));
}

function isWithin(address: bigint, first: bigint, length: number, bits: number): boolean {
  const rest = BigInt(bits - length);
  return address >> rest === first >> rest;
}

function parseV4(text: string): bigint | null {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (!match) return null;
  const parts = match.slice(1).map(Number);
  if (parts.some((part) => part > 255)) return null;
  return parts.reduce((address, part) => (address << 8n) | BigInt(part), 0n);
}

function parseV6(text: string): bigint | null {
  const halves = text.split('::');
  if (halves.length > 2 || !text.includes(':')) return null;
  const [head, tail] = halves.map(parseGroups);
  if (head === undefined || head === null || tail === null) return null;
  const missing = 8 - head.length - (tail?.length ?? 0);
  if (tail === undefined ? missing !== 0 : missing < 1) return null;
  const groups = [...head, ...Array.from({ length: missing }, () => 0), ...(tail ?? [])];
  return groups.reduce((address, group) => (address << 16n) | BigInt(group), 0n);
}

/** Groups of sixteen bits; the last one may be an IPv4 address, which is two. */
function parseGroups(text: string): number[] | null {
  if (text === '') return [];
  const groups: number[] = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    const v4 = index === parts.length - 1 ? parseV4(part) : null;
    if (v4 !== null) groups.push(Number(v4 >> 16n), Number(v4 & 0xffffn));
    else if (/^[0-9a-f]{1,4}$/i.test(part)) groups.push(parseInt(part, 16));
    else return null;
  }
  return groups;
}
