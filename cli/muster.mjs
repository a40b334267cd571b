#!/usr/bin/env node
/**
 * What the command `muster` starts. Plain JavaScript, so that an old Node can still read it and say what is wrong: the command line
 * itself is TypeScript, which Node runs as it is from 22.18 on. An old Node hands over to the one among our packages, if it is there.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const [major, minor] = process.versions.node.split('.').map(Number);
const program = fileURLToPath(new URL('muster.ts', import.meta.url));
const packagedNode = fileURLToPath(new URL('../node_modules/.bin/node', import.meta.url));

if (major > 22 || (major === 22 && minor >= 18)) {
  await import('./muster.ts');
} else if (existsSync(packagedNode)) {
  const child = spawn(packagedNode, [program, ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.once('error', (error) => {
    console.error(`muster: ${packagedNode} does not start: ${error.message}`);
    process.exit(1);
  });
  child.once('exit', (code, signal) => (signal ? process.kill(process.pid, signal) : process.exit(code ?? 1)));
} else {
  console.error(
    `muster needs Node 22.18 or newer, because it is TypeScript that Node runs as it is; this is Node ${process.versions.node}.\n` +
      `Either run "npm ci" in ${fileURLToPath(new URL('..', import.meta.url))}, which brings a newer Node with it, or install one.`,
  );
  process.exit(1);
}
