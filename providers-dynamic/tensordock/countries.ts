/** Countries as TensorDock writes them ("United States") → two-letter codes. */

/** Spellings in use besides the standard English names. */
const OTHER_NAMES: Record<string, string> = {
  usa: 'US',
  'united states of america': 'US',
  uk: 'GB',
  'great britain': 'GB',
  england: 'GB',
  scotland: 'GB',
  'czech republic': 'CZ',
  turkey: 'TR',
  'hong kong': 'HK',
  macau: 'MO',
  'korea republic of': 'KR',
  'republic of korea': 'KR',
  'viet nam': 'VN',
  'russian federation': 'RU',
  holland: 'NL',
  macedonia: 'MK',
  uae: 'AE',
};
/** Codes that the standard's tables know and that are no country. */
const NO_COUNTRIES = new Set(['EU', 'EZ', 'QO', 'UN', 'XA', 'XB', 'ZZ']);

let codes: Map<string, string> | undefined;

/** null: a country nobody has heard of, or none. */
export function countryCode(country: string | null): string | null {
  if (country === null) return null;
  codes ??= readCodes();
  const name = normalise(country);
  const known = OTHER_NAMES[name] ?? codes.get(name);
  if (known !== undefined) return known;
  const code = country.trim().toUpperCase();
  return /^[A-Z]{2}$/.test(code) && [...codes.values()].includes(code) ? code : null;
}

function readCodes(): Map<string, string> {
  const names = new Intl.DisplayNames(['en'], { type: 'region', fallback: 'none' });
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'.split('');
  const found = new Map<string, string>();
  for (const code of letters.flatMap((first) => letters.map((second) => first + second))) {
    const name = names.of(code);
    // A code that was withdrawn answers with the name of its successor.
    const isCurrent = new Intl.Locale(`und-${code}`).region === code;
    if (name !== undefined && isCurrent && !NO_COUNTRIES.has(code)) found.set(normalise(name), code);
  }
  return found;
}

function normalise(name: string): string {
  return name
    .normalize('NFD')
    .replace(/\p{M}/gu, '')
    .toLowerCase()
    .replace(/\(.*?\)/g, ' ')
    .replace(/[^a-z]+/g, ' ')
    .trim()
    .replace(/^the /, '');
}
