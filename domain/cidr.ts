/** IPv4 networks in CIDR notation: reading, comparing and cutting them. */

export interface Cidr {
  /** First address, with no host bits set. */
  base: number;
  /** 0 to 32. */
  prefix: number;
}

/** @returns null where the text is no network: bad octets, a prefix above 32, host bits set ("10.0.0.1/16"). */
export function parseCidr(text: string): Cidr | null {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/.exec(text);
  if (!match) return null;
  const [a, b, c, d, prefix] = match.slice(1).map(Number) as [number, number, number, number, number];
  if (Math.max(a, b, c, d) > 255 || prefix > 32) return null;
  const base = ((a * 256 + b) * 256 + c) * 256 + d;
  return base % addressCount(prefix) === 0 ? { base, prefix } : null;
}

export function formatCidr(cidr: Cidr): string {
  const octets = [24, 16, 8, 0].map((shift) => Math.floor(cidr.base / 2 ** shift) % 256);
  return `${octets.join('.')}/${cidr.prefix}`;
}

export function isOverlapping(a: Cidr, b: Cidr): boolean {
  return a.base < b.base + addressCount(b.prefix) && b.base < a.base + addressCount(a.prefix);
}

export function isInside(inner: Cidr, outer: Cidr): boolean {
  return inner.prefix >= outer.prefix && isOverlapping(inner, outer);
}

/** The `index`-th network of `prefix` bits inside `outer`. @throws RangeError where there is none. */
export function cutCidr(outer: Cidr, prefix: number, index: number): Cidr {
  const base = outer.base + index * addressCount(prefix);
  const cut = { base, prefix };
  if (!isInside(cut, outer)) throw new RangeError(`${formatCidr(outer)} has no network ${index} of /${prefix}`);
  return cut;
}

export interface NamedCidr {
  /** As the reader knows it: "vpcCidr". */
  name: string;
  cidr: string;
}

/**
 * A sentence for each network of `own` that overlaps another of them, and for each of `connected` that overlaps one of them (those may
 * overlap each other). Texts that are no networks are left to whoever checks them.
 */
export function describeOverlaps(
  own: readonly NamedCidr[],
  connected: readonly NamedCidr[] = [],
): { name: string; message: string }[] {
  const ours = parseAll(own);
  const overlaps = (one: ParsedCidr, others: ParsedCidr[]) =>
    others
      .filter((other) => isOverlapping(one.parsed, other.parsed))
      .map((other) => ({
        name: one.name,
        message: `${one.cidr} overlaps ${other.name} ${other.cidr}: addresses in both could not be told apart`,
      }));
  return [
    ...ours.flatMap((one, index) => overlaps(one, ours.slice(0, index))),
    ...parseAll(connected).flatMap((one) => overlaps(one, ours)),
  ];
}

type ParsedCidr = NamedCidr & { parsed: Cidr };

function parseAll(networks: readonly NamedCidr[]): ParsedCidr[] {
  return networks.flatMap((network) => {
    const parsed = parseCidr(network.cidr);
    return parsed ? [{ ...network, parsed }] : [];
  });
}

/** Everybody: an allow list with it allows all. */
export function isEveryAddress(cidr: string): boolean {
  return cidr.endsWith('/0');
}

function addressCount(prefix: number): number {
  return 2 ** (32 - prefix);
}
