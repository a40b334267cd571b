/** An OCI image reference: `[registry[:port]/]path[:tag][@digest]`, by the grammar of the distribution specification. */

const MAX_NAME_LENGTH = 255;
const HOST_PART = String.raw`[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?`;
/** Only what has a dot or a port, or is localhost, is a registry: "PyTorch/pytorch" is a misspelt path, not a host. */
const DOMAIN = String.raw`(?:${HOST_PART}(?:\.${HOST_PART})+(?::\d{1,5})?|${HOST_PART}:\d{1,5}|localhost)`;
const COMPONENT = String.raw`[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`;
const REFERENCE = new RegExp(
  `^((?:${DOMAIN}/)?${COMPONENT}(?:/${COMPONENT})*)(?::([\\w][\\w.-]{0,127}))?(?:@(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}))?$`,
);

export function isImageReference(text: string): boolean {
  const match = REFERENCE.exec(text);
  return match !== null && (match[1] as string).length <= MAX_NAME_LENGTH;
}
