/**
 * Lambda's GPU descriptions as canonical models: "A100 (40 GB SXM4)" is the A100 SXM4 with 40 GiB. The spelling is the one that the
 * other marketplaces use, so that one request matches all of them.
 */

export interface GpuModel {
  gpu: string;
  /** Of one GPU; null: the description does not tell. */
  memoryGib: number | null;
}

/** Chips that are sold in several form factors under one name; elsewhere the form factor says nothing new. */
const FORM_FACTORS: Record<string, Record<string, string>> = {
  A100: { SXM: 'A100 SXM4', PCIE: 'A100 PCIE' },
  H100: { SXM: 'H100 SXM', PCIE: 'H100 PCIE', NVL: 'H100 NVL' },
};
/** What the vendor shortens. Its "RTX 6000" is the Quadro of 2018; the later ones have "Ada" or "Pro" in their name. */
const NAMES: Record<string, string> = {
  A4000: 'RTX A4000',
  A5000: 'RTX A5000',
  A6000: 'RTX A6000',
  'QUADRO RTX 6000': 'Q RTX 6000',
  'RTX 6000': 'Q RTX 6000',
  'RTX 6000 ADA': 'RTX 6000Ada',
  V100: 'Tesla V100',
};

/** null: no GPU at all. */
export function readGpuModel(description: string): GpuModel | null {
  const match = /^([^(]*?)\s*(?:\(([^)]*)\))?$/.exec(description.trim());
  const name = (match?.[1] ?? description).trim().replace(/^nvidia\s+(geforce\s+)?/i, '');
  if (name === '' || name.toUpperCase() === 'N/A') return null;
  const details = match?.[2] ?? '';
  const memory = /(\d+)\s*Gi?B/i.exec(details)?.[1];
  const form = /\b(sxm|pcie|nvl)\d?\b/i.exec(details)?.[1]?.toUpperCase() ?? '';
  const upper = name.toUpperCase();
  return {
    gpu: FORM_FACTORS[upper]?.[form] ?? NAMES[upper] ?? name,
    memoryGib: memory === undefined ? null : Number(memory),
  };
}
