/** The script that puts the agent on a machine: `GET /nodes/install.sh`. What it downloads it compares with the checksum that it came with. */
import { AGENT_NODE_FLAGS, AGENT_NODE_TEST, AGENT_NODE_VERSION, type AgentPlatform } from './contract/agent-runtime.ts';

/**
 * @param sha256 of the file that `GET /nodes/agent.mjs` gives, in hex
 * @param programs SHA-256 of each Node that `GET /nodes/runtime/:platform` gives, unpacked; absent: none is there
 */
export function renderInstallScript(sha256: string, programs: Partial<Record<AgentPlatform, string>>): string {
  return SCRIPT.replace('@SHA256@', sha256)
    .replace('@NODE_X64@', programs['linux-x64'] ?? '')
    .replace('@NODE_ARM64@', programs['linux-arm64'] ?? '')
    .replaceAll('@NODE_VERSION@', AGENT_NODE_VERSION)
    .replace('@NODE_TEST@', AGENT_NODE_TEST)
    .replace('@NODE_FLAGS@', AGENT_NODE_FLAGS.join(' '));
}

const SCRIPT = `#!/bin/sh
# Muster's agent: installs or updates it, and starts it. May be run any number of times.
#
#   sh install.sh              needs MUSTER_AGENT_URL, and at the first time MUSTER_AGENT_TOKEN
#   sh install.sh run          the same in the foreground, for the entry point of a container: ends with the agent's service
#   sh install.sh uninstall    stops it and removes it with its key
#
# Needs: curl, wget or python3; sha256sum, shasum or openssl. A Node of version @NODE_VERSION@ or newer is used where the machine has one;
# else the control plane's is downloaded into the directory below (with gzip, some 130 MB there).
# MUSTER_AGENT_DIR (/var/lib/muster-agent)  where everything of it lies
# MUSTER_AGENT_SERVICE (auto)               systemd where that runs the machine, else none: a process of its own
# MUSTER_AGENT_NODE                         the Node to use; 'served': the control plane's, whatever the machine has
# Kept for the agent where they are set: MUSTER_AGENT_WORKSPACE (/workspace), MUSTER_AGENT_DOCKER (a socket), MUSTER_AGENT_ACTIVITY (a file),
# MUSTER_AGENT_DEAD_MAN (off, or seconds), MUSTER_AGENT_POWEROFF (a command), MUSTER_AGENT_LOCK (off, or a command), MUSTER_AGENT_UPDATE (off)
set -eu
umask 077
sha256=@SHA256@
node_sha256_x64=@NODE_X64@
node_sha256_arm64=@NODE_ARM64@
node_flags='@NODE_FLAGS@'
dir=\${MUSTER_AGENT_DIR:-/var/lib/muster-agent}
service=\${MUSTER_AGENT_SERVICE:-auto}
unit=/etc/systemd/system/muster-agent.service

say() { echo "muster-agent: $*" >&2; }
fail() {
  say "$*"
  exit 1
}

fetch() { # URL FILE
  if command -v curl >/dev/null 2>&1; then
    curl -fsSL --retry 3 --connect-timeout 20 --speed-limit 1000 --speed-time 60 -o "$2" "$1"
  elif command -v wget >/dev/null 2>&1; then
    wget -q -T 120 -O "$2" "$1"
  elif command -v python3 >/dev/null 2>&1; then
    python3 -c 'import shutil, sys, urllib.request as u; shutil.copyfileobj(u.urlopen(sys.argv[1], timeout=120), open(sys.argv[2], "wb"))' "$1" "$2"
  else
    fail 'none of curl, wget and python3 is there: install one of them'
  fi
}

digest() { # FILE
  if command -v sha256sum >/dev/null 2>&1; then
    sha256sum "$1" | cut -d ' ' -f 1
  elif command -v shasum >/dev/null 2>&1; then
    shasum -a 256 "$1" | cut -d ' ' -f 1
  elif command -v openssl >/dev/null 2>&1; then
    openssl dgst -sha256 -r "$1" | cut -d ' ' -f 1
  else
    fail 'none of sha256sum, shasum and openssl is there: the download cannot be verified'
  fi
}

does_work() { # NODE
  "$1" $node_flags -e '@NODE_TEST@' >/dev/null 2>&1
}

find_node() {
  if [ "\${MUSTER_AGENT_NODE:-}" = served ]; then
    set -- "$dir/node"
  else
    set -- "\${MUSTER_AGENT_NODE:-}" "$dir/node" node nodejs /usr/local/bin/node /opt/node/bin/node
  fi
  for candidate; do
    [ -n "$candidate" ] || continue
    found=$(command -v "$candidate" 2>/dev/null) || continue
    does_work "$found" || continue
    echo "$found"
    return 0
  done
  return 1
}

download_node() {
  system=$(uname -s) machine=$(uname -m) platform='' expected=''
  case $system-$machine in
    Linux-x86_64 | Linux-amd64) platform=linux-x64 expected=$node_sha256_x64 ;;
    Linux-aarch64 | Linux-arm64) platform=linux-arm64 expected=$node_sha256_arm64 ;;
  esac
  [ -n "$expected" ] || fail "this machine has no Node of version @NODE_VERSION@ or newer, and the control plane has none for $system $machine: install one (or name one there: MUSTER_AGENT_NODE_X64, MUSTER_AGENT_NODE_ARM64)"
  say "no Node of version @NODE_VERSION@ or newer is here: downloading the control plane's"
  fetch "$url/api/v1/nodes/runtime/$platform" "$dir/node.gz" || fail "$url/api/v1/nodes/runtime/$platform cannot be downloaded"
  gzip -dc "$dir/node.gz" >"$dir/node.new" || fail 'the downloaded Node cannot be unpacked (is gzip there, and 200 MB of disk?)'
  rm -f "$dir/node.gz"
  got=$(digest "$dir/node.new")
  if [ "$got" != "$expected" ]; then
    rm -f "$dir/node.new"
    fail "the downloaded Node has the checksum $got instead of $expected: run a fresh install.sh"
  fi
  chmod 700 "$dir/node.new"
  mv "$dir/node.new" "$dir/node"
  does_work "$dir/node" || fail "the control plane's Node does not run here (it needs glibc 2.28 or newer, and $dir not mounted noexec)"
}

uses_systemd() {
  case $service in
    systemd) return 0 ;;
    none) return 1 ;;
    *) [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ] && command -v systemctl >/dev/null 2>&1 ;;
  esac
}

is_running() { # PIDFILE
  [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null || return 1
  # After a restart of the machine the number may be another process's.
  [ ! -d /proc/self ] || grep -qF "$dir/" "/proc/$(cat "$1")/cmdline" 2>/dev/null
}

stop_agent() {
  if [ -f "$unit" ] && uses_systemd; then
    systemctl disable --now muster-agent.service >/dev/null 2>&1 || true
  fi
  # The keeper first: it would start the agent again.
  for pidfile in "$dir/keeper.pid" "$dir/agent.pid"; do
    if is_running "$pidfile"; then
      kill "$(cat "$pidfile")" 2>/dev/null || true
      tries=0
      while is_running "$pidfile" && [ "$tries" -lt 50 ]; do
        sleep 0.1
        tries=$((tries + 1))
      done
    fi
    rm -f "$pidfile"
  done
}

# Its pods' containers, which would go on without it.
remove_containers() {
  for engine in docker podman; do
    command -v "$engine" >/dev/null 2>&1 || continue
    ids=$("$engine" ps -aq --filter "label=io.muster.agent=$dir" 2>/dev/null) || continue
    # One argument for each.
    [ -z "$ids" ] || "$engine" rm -f $ids >/dev/null 2>&1 || say "containers of pods are left: $engine ps -a --filter label=io.muster.agent=$dir"
  done
}

uninstall() {
  stop_agent
  remove_containers
  if [ -f "$unit" ] && uses_systemd; then
    rm -f "$unit"
    systemctl daemon-reload || true
  fi
  rm -rf "$dir/agent.mjs" "$dir/agent.env" "$dir/agent.key" "$dir/registration.nonce" "$dir/agent.log" "$dir/keep.sh" "$dir/start.sh" "$dir/node" "$dir/node.gz" "$dir/node.new"
  rm -rf "$dir/orders" "$dir/containers" "$dir/restic-cache"
  rm -f "$dir/dead-man.json" "$dir/write-access.json" "$dir/update.json" "$dir/unproven-starts" "$dir/put-back" "$dir/agent.mjs.previous" "$dir/next.agent.mjs" "$dir"/restic-[0-9a-f]* "$dir/restic.pid"
  # What an installation or a write that was cut off left.
  rm -f "$dir/agent.mjs.new" "$dir/agent.env.new" "$dir"/agent.key.[0-9]* "$dir"/registration.nonce.[0-9]*
  rmdir "$dir" 2>/dev/null || true
  say 'removed'
}

download_agent() {
  if [ -f "$dir/agent.mjs" ] && [ "$(digest "$dir/agent.mjs")" = "$sha256" ]; then
    return 1
  fi
  fetch "$url/api/v1/nodes/agent.mjs" "$dir/agent.mjs.new" || fail "$url/api/v1/nodes/agent.mjs cannot be downloaded"
  got=$(digest "$dir/agent.mjs.new")
  if [ "$got" != "$sha256" ]; then
    rm -f "$dir/agent.mjs.new"
    fail "the download has the checksum $got instead of $sha256: run a fresh install.sh"
  fi
  mv "$dir/agent.mjs.new" "$dir/agent.mjs"
  rm -f "$dir/unproven-starts" "$dir/put-back"
}

# The shell and systemd read the same file: in quotes both understand the same of these.
kept() { # NAME VALUE
  [ -n "$2" ] || return 0
  case $2 in
    *[!A-Za-z0-9\\ ._/:=@%+,\\;\\&\\|-]*) fail "$1 may have letters, digits, blanks and . _ / : = @ % + , ; & | - only" ;;
  esac
  printf '%s="%s"\\n' "$1" "$2"
}

write_environment() {
  {
    echo "MUSTER_AGENT_URL=$url"
    echo "MUSTER_AGENT_DIR=$dir"
    [ -z "\${MUSTER_AGENT_TOKEN:-}" ] || echo "MUSTER_AGENT_TOKEN=$MUSTER_AGENT_TOKEN"
    kept MUSTER_AGENT_WORKSPACE "\${MUSTER_AGENT_WORKSPACE:-}"
    kept MUSTER_AGENT_DOCKER "\${MUSTER_AGENT_DOCKER:-}"
    kept MUSTER_AGENT_ACTIVITY "\${MUSTER_AGENT_ACTIVITY:-}"
    kept MUSTER_AGENT_DEAD_MAN "\${MUSTER_AGENT_DEAD_MAN:-}"
    kept MUSTER_AGENT_POWEROFF "\${MUSTER_AGENT_POWEROFF:-}"
    kept MUSTER_AGENT_LOCK "\${MUSTER_AGENT_LOCK:-}"
    kept MUSTER_AGENT_UPDATE "\${MUSTER_AGENT_UPDATE:-}"
  } >"$dir/agent.env.new"
  mv "$dir/agent.env.new" "$dir/agent.env"
}

# An agent that was just put in place and never gets so far as to be answered cannot put itself out of use: whoever starts it counts.
write_starter() {
  cat >"$dir/start.sh" <<START
starts="$dir/unproven-starts"
if [ -f "\\$starts" ]; then
  count=\\$(cat "\\$starts")
  case \\$count in '' | *[!0-9]*) count=0 ;; esac
  count=\\$((count + 1))
  if [ "\\$count" -gt 6 ] && [ -f "$dir/agent.mjs.previous" ]; then
    echo "muster-agent: the agent ended \\$((count - 1)) times without being answered: the one before is put back" >&2
    : >"$dir/put-back"
    mv "$dir/agent.mjs.previous" "$dir/agent.mjs"
    rm -f "\\$starts"
  else
    echo "\\$count" >"\\$starts"
  fi
fi
exec "$node" $node_flags "$dir/agent.mjs"
START
}

start_with_systemd() {
  cat >"$unit" <<UNIT
[Unit]
Description=Muster agent
After=network-online.target
Wants=network-online.target

[Service]
EnvironmentFile=$dir/agent.env
Environment=UV_THREADPOOL_SIZE=1 MALLOC_ARENA_MAX=1
ExecStart=/bin/sh $dir/start.sh
Restart=always
RestartSec=5
OOMPolicy=continue

[Install]
WantedBy=multi-user.target
UNIT
  chmod 644 "$unit"
  systemctl daemon-reload
  systemctl enable muster-agent.service >/dev/null 2>&1
  systemctl restart muster-agent.service
}

write_keeper() {
  rm -f "$dir/keeper.pid"
  cat >"$dir/keep.sh" <<KEEP
echo "\\$\\$" >"$dir/keeper.pid"
set -a
. "$dir/agent.env"
UV_THREADPOOL_SIZE=1 MALLOC_ARENA_MAX=1
set +a
trap 'kill "\\$child" 2>/dev/null; exit 0' TERM INT
while :; do
  sh "$dir/start.sh" &
  child=\\$!
  echo "\\$child" >"$dir/agent.pid"
  wait "\\$child" || true
  sleep 2 &
  child=\\$!
  wait "\\$child" || true
done
KEEP
}

start_by_itself() {
  write_keeper
  # A session of its own, where there is setsid: the end of a start script or of a login must not take it along.
  if command -v setsid >/dev/null 2>&1; then starter=setsid; else starter=; fi
  nohup $starter sh "$dir/keep.sh" >"$dir/agent.log" 2>&1 </dev/null &
  tries=0
  while [ ! -s "$dir/keeper.pid" ] && [ "$tries" -lt 50 ]; do
    sleep 0.1
    tries=$((tries + 1))
  done
}

if [ "\${1:-}" = uninstall ]; then
  uninstall
  exit 0
fi
foreground=no
if [ "\${1:-}" = run ]; then
  foreground=yes service=none
  shift
fi
[ "$#" -eq 0 ] || fail "unknown argument $1; allowed: run, uninstall"
url=\${MUSTER_AGENT_URL:-}
[ -n "$url" ] || fail 'MUSTER_AGENT_URL is not set: the address of the control plane'
url=\${url%/}
case $url in
  *[!][A-Za-z0-9:/._~%-]*) fail 'MUSTER_AGENT_URL has characters that a URL of ours does not have' ;;
esac
mkdir -p "$dir"
[ -n "\${MUSTER_AGENT_TOKEN:-}" ] || [ -s "$dir/agent.key" ] || fail 'MUSTER_AGENT_TOKEN is not set, and this machine has no key yet'
node=$(find_node) || { download_node && node=$dir/node; }
changed=no
if download_agent; then changed=yes; fi
write_environment
write_starter
if [ "$foreground" = yes ]; then
  stop_agent
  write_keeper
  say "installed in $dir, and runs"
  exec sh "$dir/keep.sh"
fi
if [ "$changed" = no ] && ! uses_systemd && is_running "$dir/keeper.pid"; then
  say 'is up to date and running'
  exit 0
fi
stop_agent
if uses_systemd; then start_with_systemd; else start_by_itself; fi
say "installed in $dir and started"
`;
