/** What the agent is told at its start: a small environment, written by the installer. The only reader of process.env on a node. */
import { existsSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { DEFAULT_POWER_OFF } from './power-off.ts';
import { DEFAULT_LOCK } from './workspace-lock.ts';

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
  /** Files of the instance that outlive its machine. */
  workspace: string;
  /** What workloads touch to say that they are busy. */
  activityFile: string;
  /** Socket of the Docker Engine API, or of Podman's; null: there is none. */
  dockerSocket: string | null;
  /** For the shell. */
  powerOffCommand: string;
  /** For the shell, with `lock` or `unlock` and the workspace as its words; null: the workspace is never locked. */
  lockCommand: string | null;
  /** What the machine's owner says of the dead man's time, in milliseconds; null: nothing, the control plane declares it. */
  deadMan: 'off' | number | null;
  updates: { isOn: boolean; spreadMs: number };
  /** For another agent that is tried beside this one. */
  trialEnvironment: Record<string, string>;
  /** A new agent that only shows that it is answered. */
  isTrial: boolean;
}

const DEFAULT_DIRECTORY = '/var/lib/muster-agent';
const DEFAULT_WORKSPACE = '/workspace';
const ACTIVITY_FILE = '.muster/active';
const DOCKER_SOCKETS = ['/var/run/docker.sock', '/run/podman/podman.sock'];
/** Over which the agents of a fleet spread their updates, in seconds. */
const UPDATE_SPREAD_SECONDS = 300;
/** Ours, and how Node finds certificates. */
const PASSED_TO_TRIAL = /^(MUSTER_AGENT_.*|NODE_EXTRA_CA_CERTS|SSL_CERT_.*|UV_.*|MALLOC_.*)$/;
const PASSED_ON = /^(PATH|HOME|LANG|LD_LIBRARY_PATH|NVIDIA_.*|CUDA_VISIBLE_DEVICES)$/;
const TOKEN = /^[A-Za-z0-9_-]{20,200}$/;

/** Throws Error naming the variable and what is allowed; never its value where that is secret. */
export function readSettings(env: Readonly<Record<string, string | undefined>> = process.env): AgentSettings {
  const token = env['MUSTER_AGENT_TOKEN']?.trim() || null;
  if (token !== null && !TOKEN.test(token)) {
    throw new Error('MUSTER_AGENT_TOKEN: is not the form of a token (its value is not shown)');
  }
  const workspace = readPath(env, 'MUSTER_AGENT_WORKSPACE') ?? DEFAULT_WORKSPACE;
  const deadMan = env['MUSTER_AGENT_DEAD_MAN']?.trim() || null;
  const lock = env['MUSTER_AGENT_LOCK']?.trim() || DEFAULT_LOCK;
  const pick = (names: RegExp) =>
    Object.fromEntries(Object.entries(env).filter(([name]) => names.test(name))) as Record<string, string>;
  return {
    url: readUrl(env['MUSTER_AGENT_URL']?.trim() ?? ''),
    token,
    clusterTokens: readClusterFiles(env),
    directory: readPath(env, 'MUSTER_AGENT_DIR') ?? DEFAULT_DIRECTORY,
    procDirectory: env['MUSTER_AGENT_PROC']?.trim() || '/proc',
    sysDirectory: env['MUSTER_AGENT_SYS']?.trim() || '/sys',
    programEnvironment: { ...pick(PASSED_ON), LC_ALL: 'C' },
    trialEnvironment: { ...pick(PASSED_ON), ...pick(PASSED_TO_TRIAL), MUSTER_AGENT_TRIAL: '1' },
    workspace,
    activityFile: readPath(env, 'MUSTER_AGENT_ACTIVITY') ?? join(workspace, ACTIVITY_FILE),
    dockerSocket: readPath(env, 'MUSTER_AGENT_DOCKER') ?? DOCKER_SOCKETS.find((path) => existsSync(path)) ?? null,
    powerOffCommand: env['MUSTER_AGENT_POWEROFF']?.trim() || DEFAULT_POWER_OFF,
    lockCommand: lock === 'off' ? null : lock,
    deadMan: deadMan === null || deadMan === 'off' ? deadMan : readSeconds('MUSTER_AGENT_DEAD_MAN', deadMan, 5) * 1_000,
    updates: {
      isOn: (env['MUSTER_AGENT_UPDATE']?.trim() || 'on') !== 'off',
      spreadMs:
        readSeconds(
          'MUSTER_AGENT_UPDATE_SPREAD',
          env['MUSTER_AGENT_UPDATE_SPREAD']?.trim() || UPDATE_SPREAD_SECONDS,
          0,
        ) * 1_000,
    },
    isTrial: env['MUSTER_AGENT_TRIAL'] === '1',
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

function readPath(env: Readonly<Record<string, string | undefined>>, name: string): string | null {
  const path = env[name]?.trim() || null;
  if (path !== null && !isAbsolute(path)) throw new Error(`${name}: got "${path}"; allowed: an absolute path`);
  return path;
}

function readSeconds(name: string, text: string | number, least: number): number {
  const seconds = Number(text);
  if (!Number.isFinite(seconds) || seconds < least || seconds > 31_536_000) {
    throw new Error(`${name}: got "${text}"; allowed: seconds, from ${least} to a year`);
  }
  return seconds;
}

function readUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isUsable = url !== null && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '';
  if (!isUsable || url.search !== '' || url.hash !== '') {
    throw new Error(`MUSTER_AGENT_URL: got "${text}"; allowed: an http or https URL without credentials and query`);
  }
  return url.href.replace(/\/+$/, '');
}
