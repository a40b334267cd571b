/** What can be read out of a start-up script or cloud-init data without running it: keys it lets in, variables it exports. */
import { findKeysInScript } from '../public-keys.ts';

export interface StartupFacts {
  /** The text and, after it, every base64 literal in it that is text: what the machine would see. */
  script: string;
  publicKeys: string[];
  env: Record<string, string>;
}

/** `echo <base64> | base64 -d`: how scripts carry other files past every kind of quoting. */
const ENCODED = /(?:echo|printf(?: '?%s'?)?)\s+['"]?([A-Za-z0-9+/]{8,}={0,2})['"]?\s*\|\s*base64\s+(?:-d|--decode|-D)/g;
const EXPORTED = /^\s*export ([A-Za-z_][A-Za-z0-9_]*)=(?:'((?:[^']|'\\'')*)'|"([^"]*)"|(\S*))\s*$/gm;

export function readStartupScript(text: string): StartupFacts {
  const parts = [text];
  for (const [, encoded = ''] of text.matchAll(ENCODED)) parts.push(Buffer.from(encoded, 'base64').toString('utf8'));
  const script = parts.join('\n');
  const env: Record<string, string> = {};
  for (const [, name = '', single, double, bare] of script.matchAll(EXPORTED)) {
    env[name] = single?.replaceAll(`'\\''`, "'") ?? double ?? bare ?? '';
  }
  return { script, publicKeys: findKeysInScript(script), env };
}

/** The commands of `#cloud-config` in JSON, which is YAML too; any other data as it is. */
export function readCloudInit(userData: string): StartupFacts {
  const body = userData.replace(/^#cloud-config[^\n]*\n/, '');
  try {
    const config = JSON.parse(body) as { runcmd?: unknown };
    const commands = Array.isArray(config.runcmd) ? config.runcmd : [];
    const lines = commands.map((command) => (Array.isArray(command) ? command.join(' ') : String(command)));
    const facts = readStartupScript(lines.join('\n'));
    return { ...facts, publicKeys: [...new Set([...facts.publicKeys, ...findKeysInScript(body)])] };
  } catch {
    return readStartupScript(userData);
  }
}
