/**
 * What a standby's machine runs at each boot: its data disk is mounted, with the workspace and the agent's key on it, and the agent is
 * installed. So a machine that was made anew on the same disk is the same node, with the same files.
 */
import { AGENT_TOKEN_VARIABLE, AGENT_URL_VARIABLE, withAgentStart } from './agent-start.ts';

/** As the component names the attached disk. */
export const DATA_DEVICE = 'data';
const MOUNT = '/mnt/muster';
const WORKSPACE = '/workspace';

/**
 * A disk is formatted only where it is proven to be empty: blkid ends with 2 where it read the disk and found nothing, and with
 * something else where it could not read it. Nothing is ever put on the boot disk in the data disk's place.
 */
const MOUNT_DATA = `disk=/dev/disk/by-id/google-${DATA_DEVICE}
for i in $(seq 60); do [ -e "$disk" ] && break; sleep 1; done
[ -e "$disk" ] || { echo "muster: no data disk" >&2; exit 1; }
found=0
blkid -p "$disk" >/dev/null || found=$?
if [ "$found" = 2 ]; then mkfs.ext4 -q -m 0 -L muster "$disk"; fi
mkdir -p ${MOUNT} ${WORKSPACE}
mountpoint -q ${MOUNT} || mount -o discard,nosuid,nodev "$disk" ${MOUNT} || exit 1
resize2fs "$disk" >/dev/null 2>&1 || true
mkdir -p ${MOUNT}/workspace ${MOUNT}/agent
mountpoint -q ${WORKSPACE} || mount --bind ${MOUNT}/workspace ${WORKSPACE} || exit 1
`;

/** @param join of the node that it is: the token is worth something once */
export function standbyStartScript(join: { url: string; token: string }): string {
  return [
    '#!/bin/sh',
    MOUNT_DATA.trimEnd(),
    `export ${AGENT_URL_VARIABLE}=${quote(join.url)}`,
    `export ${AGENT_TOKEN_VARIABLE}=${quote(join.token)}`,
    `export MUSTER_AGENT_DIR=${MOUNT}/agent`,
    `export MUSTER_AGENT_WORKSPACE=${WORKSPACE}`,
    withAgentStart(null),
  ].join('\n');
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
