/**
 * What a machine's cloud-init commands would have done, as far as the sandbox must know: the files that they write by `echo`
 * (base64 or plain), which of these run, and what these export. It runs nothing. `ssh_authorized_keys` is not looked at,
 * because the vendor does not honour it.
 */
import { isPublicKey } from '../public-keys.ts';

export interface BootResult {
  /** Who may log in as root. */
  rootKeys: string[];
  /** Who may log in as the image's own user. */
  userKeys: string[];
  /** What runs at boot besides single commands; null: nothing. */
  startupScript: string | null;
  env: Record<string, string>;
}

const ECHO = /echo\s+(?:'([^']*)'|"([^"]*)"|([^\s|>'"]+))\s*(\|\s*base64\s+(?:-d|--decode)\s*)?(>>?)\s*([^\s;)]+)/g;
const EXPORT = /^export ([A-Za-z_][A-Za-z0-9_]*)=((?:'[^']*'|\\'|[^\s'\\])*)$/gm;
const ROOT_KEYS = '/root/.ssh/authorized_keys';
const USER_KEYS = '/home/user/.ssh/authorized_keys';

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
    rootKeys: keysIn(files.get(ROOT_KEYS)),
    userKeys: keysIn(files.get(USER_KEYS)),
    startupScript: scripts.length === 0 ? null : scripts.join('\n'),
    env: Object.assign({}, ...[...files.values()].map(readExports)) as Record<string, string>,
  };
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
