/** The script that puts the agent on a machine: `GET /nodes/install.sh`. What it downloads it compares with the checksum that it came with. */
import { AGENT_NODE_FLAGS, AGENT_NODE_VERSION } from './contract/agent-runtime.ts';

/** @param sha256 of the file that `GET /nodes/agent.mjs` gives, in hex */
export function renderInstallScript(sha256: string): string {
  return SCRIPT.replace('@SHA256@', sha256)
    .replaceAll('@NODE_VERSION@', String(AGENT_NODE_VERSION))
    .replace('@NODE_FLAGS@', AGENT_NODE_FLAGS.join(' '));
}

const SCRIPT = `#!/bin/sh
# Muster's agent: installs or updates it, and starts it. May be run any number of times.
#
#   sh install.sh              needs MUSTER_AGENT_URL, and at the first time MUSTER_AGENT_TOKEN
#   sh install.sh uninstall    stops it and removes it with its key
#
# Needs: curl, wget or python3; sha256sum, shasum or openssl; Node of version @NODE_VERSION@ or newer.
# MUSTER_AGENT_DIR (/var/lib/muster-agent)  where everything of it lies
# MUSTER_AGENT_SERVICE (auto)               systemd where that runs the machine, else none: a process of its own
# MUSTER_AGENT_NODE                         the Node to use, where it is not on the PATH
set -eu
umask 077
sha256=@SHA256@
node_version=@NODE_VERSION@
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
    curl -fsSL --retry 3 --max-time 120 -o "$2" "$1"
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

find_node() {
  for candidate in "\${MUSTER_AGENT_NODE:-}" "$dir/node" node nodejs /usr/local/bin/node /opt/node/bin/node; do
    [ -n "$candidate" ] || continue
    found=$(command -v "$candidate" 2>/dev/null) || continue
    major=$("$found" -p 'process.versions.node.split(".")[0]' 2>/dev/null) || continue
    [ "$major" -ge "$node_version" ] 2>/dev/null || continue
    echo "$found"
    return 0
  done
  return 1
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

uninstall() {
  stop_agent
  if [ -f "$unit" ] && uses_systemd; then
    rm -f "$unit"
    systemctl daemon-reload || true
  fi
  rm -rf "$dir/agent.mjs" "$dir/agent.env" "$dir/agent.key" "$dir/registration.nonce" "$dir/agent.log" "$dir/keep.sh" "$dir/node"
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
}

write_environment() {
  {
    echo "MUSTER_AGENT_URL=$url"
    echo "MUSTER_AGENT_DIR=$dir"
    [ -z "\${MUSTER_AGENT_TOKEN:-}" ] || echo "MUSTER_AGENT_TOKEN=$MUSTER_AGENT_TOKEN"
  } >"$dir/agent.env.new"
  mv "$dir/agent.env.new" "$dir/agent.env"
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
ExecStart=$node $node_flags $dir/agent.mjs
Restart=always
RestartSec=5
MemoryMax=128M

[Install]
WantedBy=multi-user.target
UNIT
  chmod 644 "$unit"
  systemctl daemon-reload
  systemctl enable muster-agent.service >/dev/null 2>&1
  systemctl restart muster-agent.service
}

start_by_itself() {
  cat >"$dir/keep.sh" <<KEEP
set -a
. "$dir/agent.env"
UV_THREADPOOL_SIZE=1 MALLOC_ARENA_MAX=1
set +a
trap 'kill "\\$child" 2>/dev/null; exit 0' TERM INT
while :; do
  "$node" $node_flags "$dir/agent.mjs" &
  child=\\$!
  echo "\\$child" >"$dir/agent.pid"
  wait "\\$child" || true
  sleep 2 &
  child=\\$!
  wait "\\$child" || true
done
KEEP
  nohup sh "$dir/keep.sh" >"$dir/agent.log" 2>&1 </dev/null &
  echo $! >"$dir/keeper.pid"
}

if [ "\${1:-}" = uninstall ]; then
  uninstall
  exit 0
fi
[ "$#" -eq 0 ] || fail "unknown argument $1; allowed: uninstall"
url=\${MUSTER_AGENT_URL:-}
[ -n "$url" ] || fail 'MUSTER_AGENT_URL is not set: the address of the control plane'
url=\${url%/}
case $url in
  *[!][A-Za-z0-9:/._~%-]*) fail 'MUSTER_AGENT_URL has characters that a URL of ours does not have' ;;
esac
node=$(find_node) || fail "no Node of version $node_version or newer is there (looked for MUSTER_AGENT_NODE, node and nodejs): install one and run this again"
mkdir -p "$dir"
[ -n "\${MUSTER_AGENT_TOKEN:-}" ] || [ -s "$dir/agent.key" ] || fail 'MUSTER_AGENT_TOKEN is not set, and this machine has no key yet'
changed=no
if download_agent; then changed=yes; fi
write_environment
if [ "$changed" = no ] && ! uses_systemd && is_running "$dir/keeper.pid"; then
  say 'is up to date and running'
  exit 0
fi
stop_agent
if uses_systemd; then start_with_systemd; else start_by_itself; fi
say "installed in $dir and started"
`;
