/** What the agent is told at its start: a small environment, written by the installer. The only reader of process.env on a node. */
import { isAbsolute } from 'node:path';

export interface AgentSettings {
  /** Scheme, host, port and path prefix of the control plane, without a slash at the end. */
  url: string;
  /** The one-time token; null where a key must be in the directory already. */
  token: string | null;
  /**
   * Files on a node of a cluster: the cluster's token, and the service account token by which the cluster knows where we run. Both are
   * replaced by the kubelet while we run. null: on no such node.
   */
  clusterTokens: { tokenFile: string; proofFile: string } | null;
  /** Where the key is kept. */
  directory: string;
  /** Where the kernel tells about itself; another place only where a machine is simulated. */
  procDirectory: string;
  /** Where it shows devices; likewise. */
  sysDirectory: string;
  /** For nvidia-smi: nothing of ours. */
  programEnvironment: Record<string, string>;
}

const DEFAULT_DIRECTORY = '/var/lib/muster-agent';
const PASSED_ON = /^(PATH|HOME|LANG|LD_LIBRARY_PATH|NVIDIA_.*|CUDA_VISIBLE_DEVICES)$/;
const TOKEN = /^[A-Za-z0-9_-]{20,200}$/;

/** Throws Error naming the variable and what is allowed; never its value where that is secret. */
export function readSettings(env: Readonly<Record<string, string | undefined>> = process.env): AgentSettings {
  const token = env['MUSTER_AGENT_TOKEN']?.trim() || null;
  if (token !== null && !TOKEN.test(token)) {
    throw new Error('MUSTER_AGENT_TOKEN: is not the form of a token (its value is not shown)');
  }
  const directory = env['MUSTER_AGENT_DIR']?.trim() || DEFAULT_DIRECTORY;
  if (!isAbsolute(directory)) throw new Error(`MUSTER_AGENT_DIR: got "${directory}"; allowed: an absolute path`);
  const passed = Object.entries(env).filter(([name, value]) => value !== undefined && PASSED_ON.test(name));
  return {
    url: readUrl(env['MUSTER_AGENT_URL']?.trim() ?? ''),
    token,
    clusterTokens: readClusterFiles(env),
    directory,
    procDirectory: env['MUSTER_AGENT_PROC']?.trim() || '/proc',
    sysDirectory: env['MUSTER_AGENT_SYS']?.trim() || '/sys',
    programEnvironment: { ...(Object.fromEntries(passed) as Record<string, string>), LC_ALL: 'C' },
  };
}

function readClusterFiles(env: Readonly<Record<string, string | undefined>>): AgentSettings['clusterTokens'] {
  const [tokenFile, proofFile] = ['MUSTER_AGENT_TOKEN_FILE', 'MUSTER_AGENT_KUBERNETES_TOKEN_FILE'].map((name) => {
    const file = env[name]?.trim() || null;
    if (file !== null && !isAbsolute(file)) throw new Error(`${name}: got "${file}"; allowed: an absolute path`);
    return file;
  });
  if (!tokenFile && !proofFile) return null;
  if (!tokenFile || !proofFile)
    throw new Error('MUSTER_AGENT_TOKEN_FILE and MUSTER_AGENT_KUBERNETES_TOKEN_FILE: one needs the other');
  return { tokenFile, proofFile };
}

function readUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isUsable = url !== null && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '';
  if (!isUsable || url.search !== '' || url.hash !== '') {
    throw new Error(`MUSTER_AGENT_URL: got "${text}"; allowed: an http or https URL without credentials and query`);
  }
  return url.href.replace(/\/+$/, '');
}
