/**
 * What is run on a warm machine when it is handed over: the new user's keys are let in, their environment is set, their start script is
 * begun. Running it again changes nothing and starts nothing twice. It travels over SSH's standard input, never in a command line.
 */

export interface HandOver {
  /** Names what was begun, so that it is begun once. */
  instanceId: string;
  sshPublicKeys: readonly string[];
  env: Readonly<Record<string, string>>;
  onStart: string | null;
}

/** null: there is nothing to do. A POSIX shell script for the machine's login user. */
export function handOverScript({ instanceId, sshPublicKeys, env, onStart }: HandOver): string | null {
  const hasStart = onStart !== null && onStart !== '';
  const variables = Object.entries(env);
  if (sshPublicKeys.length === 0 && variables.length === 0 && !hasStart) return null;
  return [
    'set -eu',
    'umask 077',
    'mkdir -p "$HOME/.muster"',
    ...letIn(sshPublicKeys),
    ...setVariables(variables),
    ...(hasStart ? begin(instanceId, onStart) : []),
    '',
  ].join('\n');
}

function letIn(keys: readonly string[]): string[] {
  if (keys.length === 0) return [];
  return [
    'mkdir -p "$HOME/.ssh"',
    'touch "$HOME/.ssh/authorized_keys"',
    // The file may end without a line break.
    `let_in() { grep -qxF -- "$1" "$HOME/.ssh/authorized_keys" || printf '\\n%s\\n' "$1" >> "$HOME/.ssh/authorized_keys"; }`,
    ...keys.map((key) => `let_in ${quote(key.trim())}`),
  ];
}

/** For login shells, for commands over SSH, and for the start script. */
function setVariables(variables: [string, string][]): string[] {
  if (variables.length === 0) return [];
  const source = '[ -r "$HOME/.muster/env.sh" ] && . "$HOME/.muster/env.sh"';
  return [
    `printf '%s' ${quote(variables.map(([name, value]) => `export ${name}=${quote(value)}\n`).join(''))} > "$HOME/.muster/env.sh"`,
    'for file in "$HOME/.profile" "$HOME/.bashrc"; do',
    '  touch "$file"',
    `  grep -qxF ${quote(source)} "$file" || { printf '%s\\n' ${quote(source)} | cat - "$file" > "$file.muster" && cat "$file.muster" > "$file"; rm -f "$file.muster"; }`,
    'done',
  ];
}

/** As root, like the start script of a machine that is bought for its user; in the background, so that it holds up nothing. */
function begin(instanceId: string, onStart: string): string[] {
  return [
    `if mkdir "$HOME/.muster/begun-${instanceId}" 2>/dev/null; then`,
    `  printf '%s' ${quote(onStart)} > "$HOME/.muster/on-start.sh"`,
    `  printf '%s\\n' '[ -r "$1/env.sh" ] && . "$1/env.sh"' 'exec "$(command -v bash || echo sh)" "$1/on-start.sh"' > "$HOME/.muster/begin.sh"`,
    '  as_root=""',
    '  if [ "$(id -u)" != 0 ] && command -v sudo >/dev/null 2>&1; then as_root="sudo -n"; fi',
    '  nohup $as_root sh "$HOME/.muster/begin.sh" "$HOME/.muster" > "$HOME/.muster/on-start.log" 2>&1 < /dev/null &',
    'fi',
  ];
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
