/**
 * How the agent gets onto a rented machine: a line before the user's own start script, which runs beside it and never keeps it waiting.
 * Where to join and with which token stand in the machine's environment, never in the line.
 */

export const AGENT_URL_VARIABLE = 'MUSTER_AGENT_URL';
export const AGENT_TOKEN_VARIABLE = 'MUSTER_AGENT_TOKEN';
export const INSTALL_PATH = '/api/v1/nodes/install.sh';

/**
 * Again for ten minutes, because the control plane may be away in the very moment of a boot. An image with no program to download with
 * gets curl from its distribution, from the third try on: a start script that installs programs itself comes first.
 */
const AGENT_START_LINE = `(u=$${AGENT_URL_VARIABLE}${INSTALL_PATH};f=$(mktemp);for i in $(seq 40);do [ $i -lt 3 ]||command -v curl||command -v wget||command -v python3||(apt-get update;apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends curl ca-certificates);(curl -fsSL $u||wget -qO- $u||python3 -c 'import sys,urllib.request as u;sys.stdout.buffer.write(u.urlopen(sys.argv[1]).read())' $u)>$f&&sh $f&&break;sleep 15;done)>/tmp/muster-agent.log 2>&1 &`;

/** Vendors take start scripts of 4096 characters. */
const MAX_START_SCRIPT = 4_096;
const RESERVED_FOR_AGENT = 480;

/** Of a user's own. */
export const MAX_ON_START = MAX_START_SCRIPT - RESERVED_FOR_AGENT;

export function withAgentStart(onStart: string | null): string {
  return onStart === null || onStart === '' ? `${AGENT_START_LINE}\n` : `${AGENT_START_LINE}\n${onStart}`;
}

export function withAgentJoin(
  env: Readonly<Record<string, string>>,
  join: { url: string; token: string },
): Record<string, string> {
  return { ...env, [AGENT_URL_VARIABLE]: join.url, [AGENT_TOKEN_VARIABLE]: join.token };
}
