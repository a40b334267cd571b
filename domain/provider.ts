/** A provider: a vendor we rent from. This module names them and the facts the rules need; how to talk to one is providers-dynamic's. */
export const PROVIDER_NAMES = ['vastai'] as const;
export type ProviderName = (typeof PROVIDER_NAMES)[number];

export function isProviderName(text: string): text is ProviderName {
  return (PROVIDER_NAMES as readonly string[]).includes(text);
}
