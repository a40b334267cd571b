/**
 * GPU models: whether the name that a machine's driver reports is the model that the vendor promised. The two never agree in
 * spelling: "RTX 4090" is "NVIDIA GeForce RTX 4090", "H100 SXM" is "NVIDIA H100 80GB HBM3", "RTX 4070S Ti" is "NVIDIA GeForce
 * RTX 4070 Ti SUPER". Names are cut into tokens, words that name no model are dropped, and what is left must be the same set.
 * This is for checking a machine; requests and offers are compared by canonicalGpuKey (offer.ts).
 */

/** Brands, product lines, editions and memory kinds: words that one side writes and the other leaves out. */
const SILENT = new Set(
  (
    'nvidia geforce tesla quadro q graphics gpu device generation blackwell workstation server edition ws ac ' +
    'hbm hbm2 hbm2e hbm3 hbm3e gddr6 gddr6x gddr7'
  ).split(' '),
);

/**
 * Usable memory reported by the driver is below the marketed figure: an RTX 4090's 24 GiB are 24564 MiB, but with ECC an L40S's
 * 48 GiB are 46068 MiB (6.3 % less), and a B200 sold as 192 reports 179 GiB (6.8 % less). The next smaller model of any line has
 * at least 14 % less, so 8 % tells them apart.
 */
export const MEMORY_SHORTFALL_TOLERANCE = 0.08;

export function isSameGpuModel(promised: string, reported: string): boolean {
  const ours = parseModel(promised);
  const theirs = parseModel(reported);
  if (ours.formFactor !== null && theirs.formFactor !== null && ours.formFactor !== theirs.formFactor) return false;
  return ours.model.length > 0 && ours.model.join(' ') === theirs.model.join(' ');
}

/** More memory than promised is no complaint. */
export function hasPromisedMemory(promisedGib: number, reportedMib: number): boolean {
  return reportedMib / 1024 >= promisedGib * (1 - MEMORY_SHORTFALL_TOLERANCE);
}

/** The model as sorted words, and the form factor where the name tells one (the same chip is sold as several). */
function parseModel(name: string): { model: string[]; formFactor: string | null } {
  let formFactor: string | null = null;
  const words = new Set<string>();
  for (const word of splitWords(name)) {
    if (/^(sxm\d?|pcie|nvl)$/.test(word)) formFactor = word.replace(/\d$/, '');
    else if (!SILENT.has(word) && !/^\d+(gb|gib|g)$/.test(word)) words.add(word);
  }
  // A lone "s" is a GeForce's SUPER, but an RTX PRO's server edition.
  if (words.delete('s') && !words.has('pro')) words.add('super');
  return { model: [...words].sort(), formFactor };
}

/** "geforcertx4090-pcie-24gb" → geforce rtx 4090 pcie 24gb; "4070S" → 4070 s; "6000Ada" → 6000 ada; "L40S" and "A100" stay. */
function splitWords(name: string): string[] {
  return name
    .toLowerCase()
    .replace(/(geforce|quadro|tesla)(?=[a-z0-9])/g, '$1 ')
    .replace(/\b(rtx|gtx)(?=[a-z]?\d)/g, '$1 ')
    .replace(/\b(\d{4})(ti|super|s|d|ada|max)/g, '$1 $2 ')
    .split(/[^a-z0-9]+/)
    .filter((word) => word !== '');
}
