/** Which features of the state's schema a deployment uses: with one of them it has version 4, and engines that do not know it refuse it. */
import type { Deployment, ResourceState } from './deployment.ts';

const BYTE_STRING = 'byteString';
const SNIPPETS = 'snippets-prototype';

const OF_RESOURCE: readonly [feature: string, isUsed: (resource: ResourceState) => boolean][] = [
  ['refreshBeforeUpdate', ({ refreshBeforeUpdate }) => refreshBeforeUpdate === true],
  ['views', ({ viewOf }) => isText(viewOf)],
  ['hooks', ({ resourceHooks }) => Object.keys(resourceHooks ?? {}).length > 0],
  ['taint', ({ taint }) => taint === true],
  ['replaceWith', ({ replaceWith }) => (replaceWith?.length ?? 0) > 0],
  ['extensionParameterization', ({ extensionRef }) => isText(extensionRef)],
  [SNIPPETS, ({ snippetID }) => isText(snippetID)],
];

/** @param hasByteStrings a secret may hide one, so only whoever encrypted can tell. @returns sorted */
export function findFeatures(deployment: Deployment, hasByteStrings: boolean): string[] {
  const resources = [
    ...(deployment.resources ?? []),
    ...(deployment.pending_operations ?? []).map(({ resource }) => resource),
  ];
  const found = new Set<string>();
  for (const resource of resources) {
    if (hasByteStrings) found.add(BYTE_STRING);
    for (const [feature, isUsed] of OF_RESOURCE) if (isUsed(resource)) found.add(feature);
  }
  if ((deployment.snippets?.length ?? 0) > 0) found.add(SNIPPETS);
  return [...found].sort();
}

function isText(value: string | undefined): boolean {
  return value !== undefined && value !== '';
}
