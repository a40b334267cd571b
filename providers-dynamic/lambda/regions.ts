/** Lambda's regions as two-letter country codes. The list is the enumeration of its published schema; a new one is read by its description. */

const COUNTRIES: Record<string, string> = {
  'europe-central': 'DE',
  'asia-south': 'IN',
  'asia-northeast': 'JP',
  'australia-east': 'AU',
  'me-west': 'IL',
};
/** How descriptions end: "California, USA". */
const DESCRIBED: Record<string, string> = {
  usa: 'US',
  'united states': 'US',
  canada: 'CA',
  germany: 'DE',
  france: 'FR',
  'united kingdom': 'GB',
  india: 'IN',
  israel: 'IL',
  japan: 'JP',
  australia: 'AU',
  singapore: 'SG',
};

/** null: nobody knows where that is. */
export function countryOf(regionName: string, description: string | null): string | null {
  if (regionName.startsWith('us-')) return 'US';
  const known = COUNTRIES[regionName.replace(/-\d+$/, '')];
  if (known !== undefined) return known;
  const last = description?.split(',').at(-1)?.trim().toLowerCase() ?? '';
  return DESCRIBED[last] ?? null;
}
