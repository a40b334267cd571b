/**
 * What a machine's cloud-init commands would have done, as far as the sandbox must know: the files that they write by `echo`
 * (base64 or plain), which of these run, and what these export. It runs nothing.
 */
import { findKeysInScript, isPublicKey } from '../public-keys.ts';

export interface BootResult {
  /** Who may log in by the keys written for the user with this home. */
  keysOf(home: string): string[];
  /** What runs at boot besides single commands; null: nothing. */
  startupScript: string | null;
  env: Record<string, string>;
}

const ECHO = /echo\s+(?:'([^']*)'|"([^"]*)"|([^\s|>'"]+))\s*(\|\s*base64\s+(?:-d|--decode)\s*)?(>>?)\s*([^\s;)]+)/g;
const EXPORT = /^export ([A-Za-z_][A-Za-z0-9_]*)=((?:'[^']*'|\\'|[^\s'\\])*)$/gm;

export function runCloudInit(commands: readonly string[], writtenFiles: readonly WrittenFile[] = []): BootResult {
  const files = new Map<string, string>(writtenFiles.map(({ path, content }) => [path, content]));
  for (const command of commands) {
    for (const [, single, double, bare, isBase64, arrow, path] of command.matchAll(ECHO)) {
      const said = single ?? double ?? bare ?? '';
      const content = isBase64 === undefined ? `${said}\n` : Buffer.from(said, 'base64').toString('utf8');
      files.set(path!, (arrow === '>>' ? (files.get(path!) ?? '') : '') + content);
    }
  }
  const scripts = findScripts(commands, files);
  return {
    keysOf: (home) => keysIn(files.get(`${home}/.ssh/authorized_keys`)),
    startupScript: scripts.length === 0 ? null : scripts.join('\n'),
    env: Object.assign({}, ...[...files.values()].map(readExports)) as Record<string, string>,
  };
}

/**
 * User data as vendors take it: `#cloud-config`, of which the simulator reads JSON (which is YAML too), or a script. Keys in
 * `ssh_authorized_keys` are the default user's; of other YAML only the keys are found, wherever they stand.
 */
export function runUserData(userData: string): BootResult {
  if (!userData.startsWith('#cloud-config')) return runCloudInit([userData]);
  const body = userData.slice(userData.indexOf('\n') + 1);
  const config = parseObject(body);
  if (config === null) return { ...runCloudInit([]), keysOf: () => findKeysInScript(body) };
  const commands = Array.isArray(config['runcmd']) ? (config['runcmd'] as unknown[]) : [];
  const lines = commands.map((command) => (Array.isArray(command) ? command.join(' ') : String(command)));
  const written = Array.isArray(config['write_files']) ? (config['write_files'] as WrittenFile[]) : [];
  const result = runCloudInit(lines, written);
  const listed = Array.isArray(config['ssh_authorized_keys']) ? config['ssh_authorized_keys'].filter(isPublicKey) : [];
  return { ...result, keysOf: (home) => [...listed, ...result.keysOf(home)] };
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

export interface WrittenFile {
  path: string;
  content: string;
}

/** Written files that a command runs, and those that they run in turn: a file that runs another is only its wrapper. */
function findScripts(commands: readonly string[], files: ReadonlyMap<string, string>): string[] {
  const runs = (text: string, path: string): boolean =>
    text.split('\n').some((line) => {
      const at = line.indexOf(path);
      const before = line.slice(0, Math.max(0, at)).trim();
      return at >= 0 && (before === '' || /(?:^|[\s/])(?:ba)?sh$/.test(before));
    });
  const found: string[] = [];
  const follow = (path: string): void => {
    const content = files.get(path) ?? '';
    const inner = [...files.keys()].filter((other) => other !== path && runs(content, other));
    if (inner.length === 0) found.push(content);
    else inner.forEach(follow);
  };
  for (const path of files.keys()) if (commands.some((command) => runs(command, path))) follow(path);
  return found;
}

function keysIn(file: string | undefined): string[] {
  return (file ?? '')
    .split('\n')
    .map((line) => line.trim())
    .filter(isPublicKey);
}

function readExports(file: string): Record<string, string> {
  const entries = [...file.matchAll(EXPORT)].map(([, name, value]) => [name!, unquote(value!)]);
  return Object.fromEntries(entries) as Record<string, string>;
}

/** Single-quoted parts and `\'` between them, as shells write a quote in a quoted text. */
function unquote(value: string): string {
  return value.replace(/'([^']*)'|\\(.)/gs, (_all, quoted: string | undefined, escaped: string | undefined) => {
    return quoted ?? escaped ?? '';
  });
}
