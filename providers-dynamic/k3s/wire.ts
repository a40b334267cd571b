/** What is said to a host that runs k3s, and how its answers are read. Everything of ours lies in one directory, the cluster's data in another. */
import { ProviderError } from '../../domain/provider-error.ts';
import { quote, readLines, writeFile } from '../ssh-host/wire.ts';

/** Places that k3s makes beside its data directory; only those that were not there before are removed with it. */
const SHARED_PLACES = '/var/lib/kubelet /run/k3s /run/flannel /etc/rancher/node /var/lib/cni /etc/cni';
const UNIT = '/etc/systemd/system/muster-k3s.service';

export interface K3sPlace {
  installDir: string;
  dataDir: string;
}

/**
 *   missing      nothing of ours is there
 *   unfinished   an installation that was cut off
 *   stopped      installed, not running
 *   running      running and ready
 */
export type K3sState = 'missing' | 'unfinished' | 'stopped' | 'running';

export interface K3sOnHost {
  state: K3sState;
  binarySha256: string | null;
  configSha256: string | null;
  /** Only of a server that is ready: both are secrets. */
  nodeToken: string | null;
  kubeconfig: string | null;
}

const FUNCTIONS = ({ installDir, dataDir }: K3sPlace) => `
dir=${quote(installDir)}
data=${quote(dataDir)}
unit=${UNIT}
digest() { { sha256sum "$1" || shasum -a 256 "$1" || openssl dgst -sha256 -r "$1"; } 2>/dev/null | cut -d ' ' -f 1; }
uses_systemd() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; }
keeper_alive() { [ -s "$dir/keeper.pid" ] && kill -0 "$(cat "$dir/keeper.pid")" 2>/dev/null && grep -qsF "$dir/" "/proc/$(cat "$dir/keeper.pid")/cmdline"; }
is_up() {
  if uses_systemd; then [ "$(systemctl is-active muster-k3s.service 2>/dev/null)" = active ]; else keeper_alive; fi
}
is_ready() {
  is_up || return 1
  if [ -f "$dir/server" ]; then
    [ -s "$data/server/node-token" ] && [ -s "$dir/kubeconfig.yaml" ] && KUBECONFIG="$dir/kubeconfig.yaml" "$dir/k3s" kubectl get --raw /readyz >/dev/null 2>&1
  else
    [ -s "$data/agent/kubelet.kubeconfig" ]
  fi
}
stop_all() {
  if uses_systemd && [ -f "$unit" ]; then systemctl disable --now muster-k3s.service >/dev/null 2>&1 || true; fi
  if keeper_alive; then kill "$(cat "$dir/keeper.pid")" 2>/dev/null || true; fi
  for process in /proc/[0-9]*; do
    if tr '\\0' ' ' <"$process/cmdline" 2>/dev/null | grep -qF -e "$dir/k3s " -e "$dir/keep.sh" -e "$data/data/"; then kill \${1:-} "\${process#/proc/}" 2>/dev/null || true; fi
  done
  rm -f "$dir/keeper.pid"
}
`;

export function lookScript(place: K3sPlace): string {
  return `${FUNCTIONS(place)}
state=missing
if [ -e "$dir" ]; then state=unfinished; fi
if [ -f "$dir/installed" ]; then state=stopped; if is_ready; then state=running; fi; fi
echo "state=$state"
echo "binary=$(digest "$dir/k3s")"
echo "config=$(digest "$dir/config.yaml")"
if [ "$state" = running ] && [ -f "$dir/server" ]; then
  echo "token=$(cat "$data/server/node-token")"
  sed 's/^/kubeconfig:/' "$dir/kubeconfig.yaml"
fi
`;
}

/** Throws ProviderError `unbelievable` for an answer that is not whole. */
export function parseLook(stdout: string): K3sOnHost {
  const lines = readLines(stdout);
  const one = (name: string) => lines.get(name)?.[0] ?? null;
  const state = one('state') as K3sState | null;
  if (state === null) throw new ProviderError('unbelievable', 'the host does not say whether k3s is there');
  const kubeconfig = stdout
    .split('\n')
    .filter((line) => line.startsWith('kubeconfig:'))
    .map((line) => line.slice('kubeconfig:'.length));
  return {
    state,
    binarySha256: one('binary'),
    configSha256: one('config'),
    nodeToken: one('token'),
    kubeconfig: kubeconfig.length === 0 ? null : `${kubeconfig.join('\n')}\n`,
  };
}

export interface K3sInstallation extends K3sPlace {
  role: 'server' | 'agent';
  /** `https://…`, or `file:///…` on the host itself. */
  artefactUrl: string;
  artefactSha256: string;
  /** YAML; an agent's holds the token, so it is of mode 600. */
  config: string;
  readySeconds: number;
}

/** Ends with 0 when k3s is installed, running and ready; 75 when it was started and is not ready in time. */
export function installK3sScript(installation: K3sInstallation): string {
  const { role, artefactUrl: url, artefactSha256, config, readySeconds } = installation;
  const fetch = url.startsWith('file://')
    ? `cp ${quote(url.slice('file://'.length))} "$dir/k3s.new"`
    : `{ curl -fsSL --retry 3 --max-time 500 -o "$dir/k3s.new" ${quote(url)} || wget -q -T 500 -O "$dir/k3s.new" ${quote(url)}; }`;
  return `${FUNCTIONS(installation)}
set -eu
umask 077
fail() { echo "$*" >&2; exit 1; }
if [ ! -d "$dir" ]; then
  if [ -d "$data" ] && [ -n "$(ls -A "$data")" ]; then fail "$data is there already: a cluster that is not ours"; fi
  mkdir -p "$dir"
fi
if [ ! -f "$dir/made" ]; then
  for place in ${SHARED_PLACES}; do if [ ! -e "$place" ]; then echo "$place"; fi; done >"$dir/made.new"
  mv "$dir/made.new" "$dir/made"
fi
changed=no
if [ "$(digest "$dir/k3s")" != ${artefactSha256} ]; then
  ${fetch} || fail ${quote(`${url} cannot be had`)}
  got=$(digest "$dir/k3s.new")
  if [ "$got" != ${artefactSha256} ]; then
    rm -f "$dir/k3s.new"
    fail "the artefact has the checksum $got instead of ${artefactSha256}"
  fi
  chmod 755 "$dir/k3s.new"
  mv "$dir/k3s.new" "$dir/k3s"
  changed=yes
fi
${writeFile('$dir/config.yaml.new', config)}
if [ "$(digest "$dir/config.yaml")" != "$(digest "$dir/config.yaml.new")" ]; then changed=yes; fi
mv "$dir/config.yaml.new" "$dir/config.yaml"
rm -f "$dir/server"
${role === 'server' ? 'touch "$dir/server"' : ''}
if [ $changed = yes ] || ! is_up; then
  stop_all
  if uses_systemd; then
    cat >"$unit" <<UNIT
[Unit]
Description=k3s, kept by Muster
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=$dir/k3s ${role} --config $dir/config.yaml
KillMode=process
Delegate=yes
LimitNOFILE=1048576
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
UNIT
    chmod 644 "$unit"
    systemctl daemon-reload
    systemctl enable muster-k3s.service >/dev/null 2>&1
    systemctl restart muster-k3s.service
  else
    cat >"$dir/keep.sh" <<KEEP
trap 'kill "\\$child" 2>/dev/null; exit 0' TERM INT
while :; do
  "$dir/k3s" ${role} --config "$dir/config.yaml" &
  child=\\$!
  wait "\\$child" || true
  sleep 2 &
  child=\\$!
  wait "\\$child" || true
done
KEEP
    nohup sh "$dir/keep.sh" >"$dir/k3s.log" 2>&1 </dev/null &
    echo $! >"$dir/keeper.pid"
  fi
fi
touch "$dir/installed"
tries=0
until is_ready; do
  tries=$((tries + 1))
  if [ "$tries" -gt ${readySeconds * 2} ]; then
    echo "k3s was started and is not ready after ${readySeconds} s" >&2
    exit 75
  fi
  sleep 0.5
done
`;
}

/** Ends with 0 when nothing of ours is left. The cluster's data goes with it. */
export function removeK3sScript(place: K3sPlace): string {
  return `${FUNCTIONS(place)}
if [ -d "$dir" ] || grep -qsF "$dir/k3s" "$unit"; then
  stop_all
  tries=0
  while [ "$tries" -lt 50 ] && pgrep -f "$dir/k3s " >/dev/null 2>&1; do sleep 0.1; tries=$((tries + 1)); done
  stop_all -9
  if grep -qsF "$dir/k3s" "$unit"; then rm -f "$unit"; systemctl daemon-reload 2>/dev/null; fi
  for mount in $(cut -d ' ' -f 2 /proc/mounts | sort -r); do
    case $mount in "$data"/* | /run/k3s/* | /run/netns/cni-*) umount -l "$mount" 2>/dev/null ;; esac
    if grep -qsx /var/lib/kubelet "$dir/made"; then case $mount in /var/lib/kubelet/*) umount -l "$mount" 2>/dev/null ;; esac; fi
  done
  if grep -qsx /run/k3s "$dir/made"; then for link in cni0 flannel.1; do ip link delete $link 2>/dev/null; done; fi
  # Only of an installation of ours is the data ours to remove.
  if [ -f "$dir/made" ]; then
    for made in $(cat "$dir/made"); do rm -rf "$made"; done
    rm -rf "$data"
  fi
  rm -f "$dir/k3s" "$dir/k3s.new" "$dir/config.yaml" "$dir/config.yaml.new" "$dir/kubeconfig.yaml" "$dir/keep.sh" "$dir/k3s.log" "$dir/server" "$dir/installed" "$dir/made" "$dir/made.new"
  rmdir "$dir" 2>/dev/null
fi
left=
for name in k3s config.yaml keep.sh installed made; do if [ -e "$dir/$name" ]; then left="$left $dir/$name"; fi; done
if grep -qsF "$dir/k3s" "$unit"; then left="$left $unit"; fi
echo "left=$left"
[ -z "$left" ]
`;
}

/** As k3s reads it; keys in a fixed order. JSON texts are YAML. */
export function renderConfig(values: Record<string, string | number | string[]>): string {
  return `${Object.entries(values)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}: ${JSON.stringify(value)}`)
    .join('\n')}\n`;
}
