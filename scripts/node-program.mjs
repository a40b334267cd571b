/** The Node program that runs Muster: Node 24, which runs TypeScript as it is. It comes with the packages, so a machine with Node 20 needs no other install. */
import { execFileSync } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { join } from 'node:path';

const NEEDED = 24;

/** The path of a Node of at least version 24; throws one message with what was looked at. `own` is the Node that runs us. */
export function findNode(root, own = { path: process.execPath, version: process.versions.node }) {
  const packaged = join(root, 'node_modules', '.bin', 'node');
  const tried = [];
  for (const { path, version } of [{ path: packaged, version: versionOf(packaged) }, own]) {
    if (Number(version.split('.')[0]) >= NEEDED) return realpathSync(path);
    tried.push(`${path} (${version})`);
  }
  throw new Error(
    `Muster runs on Node ${NEEDED} or newer. Tried: ${tried.join(', ')}. The packages bring one for Linux on x64 and arm64; elsewhere install Node ${NEEDED} and start with it.`,
  );
}

function versionOf(program) {
  if (!existsSync(program)) return 'not there';
  try {
    return execFileSync(program, ['--version'], { encoding: 'utf8' }).trim().replace(/^v/, '');
  } catch (error) {
    return `does not run: ${error.message.split('\n')[0]}`;
  }
}
