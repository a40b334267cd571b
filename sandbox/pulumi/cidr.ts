/** IPv4 blocks, as far as a cloud checks them. */

export interface Cidr {
  readonly first: number;
  readonly last: number;
  readonly prefix: number;
  /** Whether the address is the first of its block. */
  readonly isAligned: boolean;
}

/** Every new subnet is compared with every other. */
const parsed = new Map<string, Cidr | undefined>();
const MAX_PARSED = 10_000;

/** Undefined for what is no IPv4 block. */
export function parseCidr(text: string): Cidr | undefined {
  if (parsed.has(text)) return parsed.get(text);
  if (parsed.size >= MAX_PARSED) parsed.clear();
  const cidr = parse(text);
  parsed.set(text, cidr);
  return cidr;
}

function parse(text: string): Cidr | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/.exec(text);
  if (!match) return undefined;
  const numbers = match.slice(1).map(Number);
  const prefix = numbers[4]!;
  if (numbers.slice(0, 4).some((part) => part > 255) || prefix > 32) return undefined;
  const address = numbers.slice(0, 4).reduce((sum, part) => sum * 256 + part, 0);
  const size = 2 ** (32 - prefix);
  const first = Math.floor(address / size) * size;
  return { first, last: first + size - 1, prefix, isAligned: first === address };
}

export function overlaps(a: Cidr, b: Cidr): boolean {
  return a.first <= b.last && b.first <= a.last;
}

export function isInside(inner: Cidr, outer: Cidr): boolean {
  return inner.first >= outer.first && inner.last <= outer.last;
}

/** The address so many places into the block. */
export function addressIn({ first }: Cidr, place: number): string {
  const address = first + place;
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
}
