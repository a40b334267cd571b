/** Images of pods: what a reference means, and whether the deployment allows it. Whether one has the right form is the contract's to say. */

export interface ImageName {
  /** `docker.io` where the reference names none. */
  registry: string;
  /** `library/…` for the official ones of docker.io. */
  path: string;
  /** `latest` where neither tag nor digest is given; null: only a digest is. */
  tag: string | null;
  digest: string | null;
}

/** As engines read it: what stands before the first slash is a registry only with a dot, a port, or as localhost. */
export function parseImageName(reference: string): ImageName {
  const [named, digest] = splitAt(reference, '@');
  const lastSlash = named.lastIndexOf('/');
  const colon = named.indexOf(':', lastSlash + 1);
  const bare = colon < 0 ? named : named.slice(0, colon);
  const tag = colon < 0 ? null : named.slice(colon + 1);
  const slash = bare.indexOf('/');
  const first = slash < 0 ? '' : bare.slice(0, slash);
  const isRegistry = /[.:]/.test(first) || first === 'localhost';
  const registry = isRegistry ? first.toLowerCase() : 'docker.io';
  const path = isRegistry ? bare.slice(slash + 1) : bare;
  const isOfficial = registry === 'docker.io' && !path.includes('/');
  return {
    registry: registry === 'index.docker.io' ? 'docker.io' : registry,
    path: isOfficial ? `library/${path}` : path,
    tag: tag ?? (digest === null ? 'latest' : null),
    digest,
  };
}

/** The whole name, so that one image has one spelling. */
export function formatImageName({ registry, path, tag, digest }: ImageName): string {
  return `${registry}/${path}${tag === null ? '' : `:${tag}`}${digest === null ? '' : `@${digest}`}`;
}

/**
 * A pattern is a whole name without tag (`docker.io/library/busybox`, any tag), one with a tag or digest, or a prefix that ends with `/*`
 * (`ghcr.io/acme/*`: everything below). `*` alone is every image.
 */
export const IMAGE_PATTERN =
  /^(?:\*|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::\d{1,5})?(?:\/[a-z0-9._-]+)*(?:\/\*|(?::[\w.-]{1,128})?(?:@sha256:[a-f0-9]{64})?))$/;

/** Whether one of the patterns allows it. */
export function isImageAllowed(reference: string, patterns: readonly string[]): boolean {
  const name = parseImageName(reference);
  const place = `${name.registry}/${name.path}`;
  return patterns.some((pattern) => {
    if (pattern === '*') return true;
    // "acme/*" would be read as a registry's or as Docker Hub's: a prefix is always a whole one.
    if (pattern.endsWith('/*')) return place.startsWith(pattern.slice(0, -1));
    const wanted = parseImageName(pattern);
    if (`${wanted.registry}/${wanted.path}` !== place) return false;
    const hasTag = pattern
      .slice(pattern.lastIndexOf('/') + 1)
      .replace(/@.*/, '')
      .includes(':');
    if (hasTag && wanted.tag !== name.tag) return false;
    return wanted.digest === null || wanted.digest === name.digest;
  });
}

function splitAt(text: string, mark: string): [string, string | null] {
  const at = text.indexOf(mark);
  return at < 0 ? [text, null] : [text.slice(0, at), text.slice(at + 1)];
}
