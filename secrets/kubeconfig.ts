/** Reads the text of a kubeconfig, YAML or JSON. What of it is taken is domain/clusters/kubeconfig.ts's. */
import { load } from 'js-yaml';
import { parseKubeconfig, type ParsedKubeconfig } from '../domain/clusters/kubeconfig.ts';

/** The parameters of {@link parseKubeconfig}. YAML's own errors quote the text, which is secret: only the line is told. */
export function readKubeconfig(
  text: string,
  path: string,
  allowExec: Parameters<typeof parseKubeconfig>[2] = null,
): ParsedKubeconfig {
  let document: unknown;
  try {
    document = load(text);
  } catch (error) {
    const line = (error as { mark?: { line?: number } }).mark?.line;
    const where = line === undefined ? '' : ` (line ${line + 1})`;
    return { errors: [{ path, message: `is no YAML or JSON${where}` }] };
  }
  return parseKubeconfig(document, path, allowExec);
}
