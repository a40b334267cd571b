/**
 * Where RunPod's data centers are. The vendor names a continent only, but its ids tell the country: "US-KS-2" and "CA-MTL-1" begin
 * with it, "EU-RO-1", "EUR-IS-2", "AP-JP-1" and "OC-AU-1" name it after the region. Inferred from the vendor's list.
 */

const COUNTRIES_FIRST = new Set(['US', 'CA']);
const REGIONS_FIRST = new Set(['EU', 'EUR', 'AP', 'OC', 'SEA', 'ME', 'AF', 'SA', 'AS']);

/** Two-letter country code; null where the id does not tell. */
export function countryOfDataCenter(id: string): string | null {
  const [first = '', second = ''] = id.toUpperCase().split('-');
  if (COUNTRIES_FIRST.has(first)) return first;
  return REGIONS_FIRST.has(first) && /^[A-Z]{2}$/.test(second) ? second : null;
}
