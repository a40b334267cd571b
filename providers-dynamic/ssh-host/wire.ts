/**
 * What is said to a host and how its answers are read: POSIX shell scripts, answers as `name=value` lines. What a host does not tell is
 * null, never zero and never empty.
 */
import { ProviderError } from '../../domain/provider-error.ts';

export interface HostDisk {
  name: string;
  gib: number;
}

export interface HostGpu {
  name: string | null;
  uuid: string | null;
  memoryMib: number | null;
  driver: string | null;
}

/** Things that stay as they are from one look to the next, unless somebody changed the host. */
export interface HostFacts {
  hostname: string | null;
  os: string | null;
  kernel: string | null;
  architecture: string | null;
  cpuModel: string | null;
  cpuCount: number | null;
  memoryMib: number | null;
  /** null: not told. */
  disks: HostDisk[] | null;
  /** null: not told; empty: there are none. */
  gpus: HostGpu[] | null;
  /** Why `gpus` is null. */
  gpuProblem: string | null;
}

export const FACTS_SCRIPT = `
say() { printf '%s=%s\\n' "$1" "$2"; }
say hostname "$(uname -n 2>/dev/null)"
say os "$(sed -n 's/^PRETTY_NAME="\\{0,1\\}\\([^"]*\\)"\\{0,1\\}$/\\1/p' /etc/os-release 2>/dev/null | head -n 1)"
say kernel "$(uname -r 2>/dev/null)"
say architecture "$(uname -m 2>/dev/null)"
say cpu_model "$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo 2>/dev/null | head -n 1)"
say cpu_count "$(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null)"
say memory_kib "$(sed -n 's/^MemTotal: *\\([0-9]*\\) kB$/\\1/p' /proc/meminfo 2>/dev/null)"
if command -v lsblk >/dev/null 2>&1 && disks=$(lsblk -bdnr -o NAME,SIZE,TYPE 2>/dev/null); then
  say disks read
  printf '%s\\n' "$disks" | sed -n 's/^\\([^ ]*\\) \\([0-9]*\\) disk$/disk=\\1 \\2/p'
fi
if command -v nvidia-smi >/dev/null 2>&1; then
  if gpus=$(timeout 20 nvidia-smi --query-gpu=name,uuid,memory.total,driver_version --format=csv,noheader,nounits 2>/dev/null); then
    say gpus read
    printf '%s\\n' "$gpus" | sed 's/^/gpu=/'
  else
    say gpus failed
  fi
else
  gpus=
  for device in /sys/bus/pci/devices/*; do
    [ -r "$device/class" ] && [ -r "$device/vendor" ] || continue
    [ -n "$gpus" ] || gpus=none
    case "$(cat "$device/class")-$(cat "$device/vendor")" in
      0x03*-0x10de | 0x12*-0x10de) gpus=no_driver ;;
      0x12*-0x1da3) gpus=gaudi ;;
    esac
  done
  say gpus "$gpus"
fi
`;

const GPU_PROBLEMS: Record<string, string> = {
  failed: 'nvidia-smi is there and fails',
  no_driver: 'an NVIDIA device is there and nvidia-smi is not: the driver is missing',
  gaudi: 'Gaudi devices are there, which are not read over SSH',
};

/** Throws ProviderError `unbelievable` where nothing can be read out of the answer. */
export function parseFacts(stdout: string): HostFacts {
  const lines = readLines(stdout);
  const one = (name: string) => lines.get(name)?.[0] ?? null;
  if (one('kernel') === null && one('architecture') === null)
    throw new ProviderError('unbelievable', 'the host says nothing about itself');
  const memoryKib = readCount(one('memory_kib'));
  const gpuState = one('gpus');
  const gpus = gpuState === 'read' ? (lines.get('gpu') ?? []).map(parseGpu) : gpuState === 'none' ? [] : null;
  return {
    hostname: one('hostname'),
    os: one('os'),
    kernel: one('kernel'),
    architecture: one('architecture'),
    cpuModel: one('cpu_model'),
    cpuCount: readCount(one('cpu_count')),
    memoryMib: memoryKib === null ? null : Math.round(memoryKib / 1024),
    disks: one('disks') === null ? null : (lines.get('disk') ?? []).flatMap(parseDisk).sort(byName),
    gpus,
    gpuProblem: gpus === null ? (GPU_PROBLEMS[gpuState ?? ''] ?? 'the host does not tell its devices') : null,
  };
}

/**
 *   missing      nothing of ours is there
 *   unfinished   something of ours is there, and it was never registered: an installation that was cut off
 *   stopped      registered, not running
 *   running      registered and running
 */
export const AGENT_STATES = ['missing', 'unfinished', 'stopped', 'running'] as const;
export type AgentState = (typeof AGENT_STATES)[number];

export interface AgentOnHost {
  state: AgentState;
  /** Whose agent it is; null: it has not registered. */
  nodeId: string | null;
  /** The control plane that it reports to; null: not told. */
  url: string | null;
  /** Of the agent's file; null: not told. */
  sha256: string | null;
}

/** Everything that an installation makes in its directory; a user's files there have other names. */
const OURS =
  'agent.mjs agent.mjs.new agent.env agent.env.new agent.key agent.log registration.nonce keep.sh keeper.pid agent.pid node node.gz node.new .install';

export function agentScript(dir: string): string {
  return `
dir=${quote(dir)}
unit=/etc/systemd/system/muster-agent.service
has_unit=no
if grep -qsF "$dir/agent.mjs" "$unit"; then has_unit=yes; fi
alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null && grep -qF "$dir/" "/proc/$(cat "$1")/cmdline" 2>/dev/null; }
found=
for name in ${OURS}; do if [ -e "$dir/$name" ]; then found="$found $name"; fi; done
echo "files=$found"
echo "unit=$has_unit"
echo "url=$(sed -n 's/^MUSTER_AGENT_URL=//p' "$dir/agent.env" 2>/dev/null)"
echo "sha=$({ sha256sum "$dir/agent.mjs" || shasum -a 256 "$dir/agent.mjs"; } 2>/dev/null | cut -d ' ' -f 1)"
echo "node=$(sed -n 's/.*"nodeId":"\\([^"]*\\)".*/\\1/p' "$dir/agent.key" 2>/dev/null)"
running=no
if [ $has_unit = yes ] && command -v systemctl >/dev/null 2>&1; then
  if [ "$(systemctl is-active muster-agent.service 2>/dev/null)" = active ]; then running=yes; fi
elif alive "$dir/keeper.pid"; then
  running=yes
fi
echo "running=$running"
`;
}

/** Throws ProviderError `unbelievable` for an answer that is not whole. */
export function parseAgent(stdout: string): AgentOnHost {
  const lines = readLines(stdout);
  const one = (name: string) => lines.get(name)?.[0] ?? null;
  const running = one('running');
  if (running === null) throw new ProviderError('unbelievable', 'the host does not say whether an agent is there');
  const nodeId = one('node');
  const isThere = one('files') !== null || one('unit') === 'yes';
  const state = !isThere ? 'missing' : nodeId === null ? 'unfinished' : running === 'yes' ? 'running' : 'stopped';
  return { state, nodeId, url: one('url'), sha256: one('sha') };
}

export interface AgentInstallation {
  /** Of the control plane: what its install.sh is. */
  script: string;
  url: string;
  dir: string;
  /** null: the host is registered and has its key. */
  token: string | null;
  /** The Node to use; null: the one on the PATH. */
  nodePath: string | null;
  /** How long to wait for the agent to register. */
  registerSeconds: number;
}

/** Ends with 0 when the agent is installed, registered and running. The token is in the script's environment, never in an argument. */
export function installScript(installation: AgentInstallation): string {
  const { script, url, dir, token, nodePath, registerSeconds } = installation;
  return `
set -eu
umask 077
dir=${quote(dir)}
# A place of this run's own: one whose connection was lost may still be at it.
for other in "$dir"/.install/*; do
  if [ -d "$other" ] && ! kill -0 "\${other##*/}" 2>/dev/null; then rm -rf "$other"; fi
done
own=$dir/.install/$$
mkdir -p "$own"
# By its start it is told from another process that gets its number later.
sed 's/.*) //' "/proc/$$/stat" | cut -d ' ' -f 20 >"$own/started"
trap 'rm -rf "$own"; rmdir "$dir/.install" "$dir" 2>/dev/null || true' EXIT
trap 'exit 129' HUP INT TERM PIPE
${writeFile('$own/install.sh', script)}
export MUSTER_AGENT_URL=${quote(url)} MUSTER_AGENT_DIR="$dir"
${nodePath === null ? '' : `export MUSTER_AGENT_NODE=${quote(nodePath)}`}
${token === null ? '' : `export MUSTER_AGENT_TOKEN=${quote(token)}`}
# What an installation that was cut off left running has a token that is worth nothing any more.
${token === null ? '' : 'sh "$own/install.sh" uninstall\n'}sh "$own/install.sh"
tries=0
while [ ! -s "$dir/agent.key" ]; do
  tries=$((tries + 1))
  if [ "$tries" -gt ${registerSeconds * 5} ]; then
    echo "the agent was started and did not register within ${registerSeconds} s: $(tail -n 1 "$dir/agent.log" 2>/dev/null)" >&2
    exit 75
  fi
  sleep 0.2
done
`;
}

/** Of the agent that an install.sh brings; null: it does not say. */
export function agentSha256Of(script: string): string | null {
  return /^sha256=([0-9a-f]{64})$/m.exec(script)?.[1] ?? null;
}

/** Ends with 0 when nothing of ours is left; else the answer names what is. */
export function uninstallScript(dir: string, script: string): string {
  return `
umask 077
dir=${quote(dir)}
export MUSTER_AGENT_DIR="$dir"
unit=/etc/systemd/system/muster-agent.service
# An installation whose connection was lost may still be at it: it must not go on after this.
for other in "$dir"/.install/[0-9]*; do
  pid=\${other##*/}
  started=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d ' ' -f 20)
  if [ -n "$started" ] && [ "$started" = "$(cat "$other/started" 2>/dev/null)" ]; then kill -9 "$pid" 2>/dev/null; fi
done
for process in /proc/[0-9]*; do
  if tr '\\0' ' ' <"$process/cmdline" 2>/dev/null | grep -qF -e "$dir/.install/" -e "$dir/agent.mjs.new" -e "$dir/node.gz"; then
    kill -9 "\${process#/proc/}" 2>/dev/null
  fi
done
if [ -d "$dir" ] || grep -qsF "$dir/agent.mjs" "$unit"; then
  rm -rf "$dir/.install"
  mkdir -p "$dir/.install" || exit 1
${writeFile('$dir/.install/install.sh', script)}
  sh "$dir/.install/install.sh" uninstall
  rm -rf "$dir/.install"
  rmdir "$dir" 2>/dev/null
fi
left=
for name in ${OURS}; do if [ -e "$dir/$name" ]; then left="$left $dir/$name"; fi; done
for process in /proc/[0-9]*; do
  if tr '\\0' ' ' <"$process/cmdline" 2>/dev/null | grep -qF -e "$dir/agent.mjs" -e "$dir/keep.sh"; then left="$left process:\${process#/proc/}"; fi
done
if grep -qsF "$dir/agent.mjs" "$unit"; then left="$left $unit"; fi
echo "left=$left"
[ -z "$left" ]
`;
}

/** What a script says was left, or undefined where it never came so far. */
export function parseLeft(stdout: string): string[] | undefined {
  const line = stdout.split('\n').findLast((each) => each.startsWith('left='));
  return line?.slice('left='.length).trim().split(/\s+/).filter(Boolean);
}

/** As one word of a POSIX shell. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Lines that write a file; `path` may hold shell variables. */
export function writeFile(path: string, text: string): string {
  const end = `MUSTER_END_${text.length}`;
  if (text.split('\n').includes(end)) throw new Error(`a file's text holds its own end mark ${end}`);
  return `cat >"${path}" <<'${end}'\n${text.replace(/\n$/, '')}\n${end}`;
}

/** Empty values are left out. */
export function readLines(stdout: string): Map<string, string[]> {
  const lines = new Map<string, string[]>();
  for (const line of stdout.split('\n')) {
    const match = /^([a-z_]{1,30})=(.*)$/.exec(line);
    const [, name, raw] = match ?? [];
    const value = raw?.trim().slice(0, 300);
    if (name !== undefined && value) lines.set(name, [...(lines.get(name) ?? []), value]);
  }
  return lines;
}

function parseDisk(line: string): HostDisk[] {
  const [name, size] = line.split(' ');
  const bytes = readCount(size ?? null);
  return name && bytes ? [{ name, gib: Math.round(bytes / 1024 ** 3) }] : [];
}

function parseGpu(line: string): HostGpu {
  const [name, uuid, memory, driver] = line
    .split(',')
    .map((part) => (/^\s*\[.*\]\s*$/.test(part) ? null : part.trim() || null));
  return { name: name ?? null, uuid: uuid ?? null, memoryMib: readCount(memory ?? null), driver: driver ?? null };
}

function readCount(text: string | null): number | null {
  const value = Number(text);
  return text !== null && /^\d{1,18}$/.test(text) && value > 0 ? value : null;
}

function byName(a: HostDisk, b: HostDisk): number {
  return a.name < b.name ? -1 : 1;
}
