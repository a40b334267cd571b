/**
 * Counting what a tar stream holds, without keeping any of it: regular files and their bytes.
 * Source of the format: POSIX.1-2017 pax, "ustar interchange format"; https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html
 */
const BLOCK = 512;
const MAX_PAX_BYTES = 1_048_576;

export interface TarCount {
  files: number;
  bytes: bigint;
}

/** Throws where the stream is no tar, or ends in the middle. */
export async function countTar(stream: AsyncIterable<Uint8Array>): Promise<TarCount> {
  const counter = createTarCounter();
  for await (const chunk of stream) counter.add(chunk);
  return counter.end();
}

function createTarCounter() {
  const count: TarCount = { files: 0, bytes: 0n };
  const header = Buffer.alloc(BLOCK);
  let headerFilled = 0;
  /** Of the entry's content and its padding, still to come. */
  let contentLeft = 0;
  let paddingLeft = 0;
  /** Records of a pax header that is being read. */
  let pax: Buffer[] | null = null;
  let paxSize: number | null = null;
  let isAtEnd = false;

  function takeHeader(): void {
    headerFilled = 0;
    if (header.every((byte) => byte === 0)) {
      isAtEnd = true;
      return;
    }
    assertChecksum(header);
    const type = String.fromCharCode(header[156] ?? 0);
    const size = paxSize !== null && type !== 'x' && type !== 'g' ? paxSize : sizeOf(header);
    contentLeft = size;
    paddingLeft = (BLOCK - (size % BLOCK)) % BLOCK;
    if (type === 'x') {
      if (size > MAX_PAX_BYTES) throw new Error('a tar header is too large');
      pax = size === 0 ? null : [];
      return;
    }
    if (type === 'g' || type === 'L' || type === 'K') return;
    paxSize = null;
    if (type === '0' || type === '\0' || type === '7') {
      count.files++;
      count.bytes += BigInt(size);
    } else if (type !== '5' && type !== '1' && type !== '2') return;
    else if (size > 0 && type !== '5') contentLeft = paddingLeft = 0; // links have none, whatever they say
  }

  function endContent(): void {
    if (pax === null) return;
    paxSize = sizeInPax(Buffer.concat(pax));
    pax = null;
  }

  return {
    add(chunk: Uint8Array): void {
      let at = 0;
      while (at < chunk.length) {
        if (isAtEnd) return; // the rest is padding
        if (contentLeft > 0) {
          const taken = Math.min(contentLeft, chunk.length - at);
          pax?.push(Buffer.from(chunk.subarray(at, at + taken)));
          contentLeft -= taken;
          at += taken;
          if (contentLeft === 0) endContent();
        } else if (paddingLeft > 0) {
          const taken = Math.min(paddingLeft, chunk.length - at);
          paddingLeft -= taken;
          at += taken;
        } else {
          const taken = Math.min(BLOCK - headerFilled, chunk.length - at);
          header.set(chunk.subarray(at, at + taken), headerFilled);
          headerFilled += taken;
          at += taken;
          if (headerFilled === BLOCK) takeHeader();
        }
      }
    },
    end(): TarCount {
      if (contentLeft > 0 || headerFilled > 0 || pax !== null || !isAtEnd)
        throw new Error('the stream ended in the middle');
      return count;
    },
  };
}

/** Octal, or binary where the first bit says so. */
function sizeOf(header: Buffer): number {
  const field = header.subarray(124, 136);
  if (((field[0] ?? 0) & 0x80) !== 0) {
    const size = field.subarray(4).reduce((value, byte) => value * 256n + BigInt(byte), 0n);
    if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw new Error('a tar entry is too large');
    return Number(size);
  }
  const text = field.toString('latin1').replace(/\0.*$/s, '').trim();
  if (!/^[0-7]*$/.test(text)) throw new Error('a tar header is broken');
  return text === '' ? 0 : parseInt(text, 8);
}

function assertChecksum(header: Buffer): void {
  const told = parseInt(header.subarray(148, 156).toString('latin1').replace(/\0.*$/s, '').trim(), 8);
  const sum = header.reduce((total, byte, index) => total + (index >= 148 && index < 156 ? 32 : byte), 0);
  if (sum !== told) throw new Error('a tar header is broken');
}

/** null: the records name no size. Each is "<length> <key>=<value>\n", its length counting itself. */
function sizeInPax(records: Buffer): number | null {
  let at = 0;
  let size: number | null = null;
  while (at < records.length) {
    const blank = records.indexOf(32, at);
    const length = Number(records.subarray(at, blank).toString('latin1'));
    if (blank < 0 || !Number.isInteger(length) || length <= 0) throw new Error('a tar header is broken');
    const record = records.subarray(blank + 1, at + length - 1).toString('utf8');
    if (record.startsWith('size=')) size = Number(record.slice(5));
    at += length;
  }
  return size;
}
