/** An OCI image reference: `[registry[:port]/]path[:tag][@digest]`, by the grammar of the distribution specification. */

const MAX_NAME_LENGTH = 255;
const DOMAIN = String.raw`(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::\d{1,5})?`;
const COMPONENT = String.raw`[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`;
const REFERENCE = new RegExp(
  `^((?:${DOMAIN}/)?${COMPONENT}(?:/${COMPONENT})*)(?::([\\w][\\w.-]{0,127}))?(?:@(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}))?$`,
);

export function isImageReference(text: string): boolean {
  const match = REFERENCE.exec(text);
  return match !== null && (match[1] as string).length <= MAX_NAME_LENGTH;
}
