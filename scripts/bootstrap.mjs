/**
 * The bootstrap: what `npm start`, `npm test` and `npm run check` call first. It runs on Node 20 with nothing installed, brings the project to where it can
 * run (packages, Node 24, and for tests the engine), and hands over. It holds no part of Muster itself.
 *
 *   node scripts/bootstrap.mjs start | test [vitest arguments] | check | setup | <file.ts> [arguments]
 */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runChecks } from './check.mjs';
import { installPackages } from './install.mjs';
import { findNode } from './node-program.mjs';
import { runSupervised } from './supervise.mjs';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const OLDEST_NODE = 20;
const USAGE = 'Use: node scripts/bootstrap.mjs start | test [vitest arguments] | check | setup | <file.ts> [arguments]';

/** Most of what the control plane allocates dies young: a small nursery keeps it at 115 instead of 160 MB. Node's wording about .ts files is noise. */
const MAIN_FLAGS = ['--max-semi-space-size=2', '--disable-warning=ExperimentalWarning'];

async function main([command, ...args]) {
  if (Number(process.versions.node.split('.')[0]) < OLDEST_NODE) {
    return fail(
      `Muster needs Node ${OLDEST_NODE} or newer to set itself up; this is Node ${process.versions.node} (${process.execPath}).`,
    );
  }
  const run =
    { start, test, check, setup }[command] ??
    (command?.endsWith('.ts') ? (context) => runFile(context, command, args) : null);
  if (!run) return fail(USAGE, 2);
  try {
    await installPackages(ROOT, say);
    const node = findNode(ROOT);
    return await run({ node, env: environment(node) }, args);
  } catch (error) {
    return fail(error.message);
  }
}

function start({ node, env }, args) {
  if (!existsSync(join(ROOT, 'main.ts'))) return fail('main.ts is missing: this is no complete checkout of Muster.');
  return runSupervised(node, [...MAIN_FLAGS, 'main.ts', ...args], { cwd: ROOT, env });
}

async function test({ node, env }, args) {
  const code = await obtainEngine(node, env);
  if (code !== 0) return code;
  return runSupervised(node, ['node_modules/vitest/vitest.mjs', 'run', ...args], { cwd: ROOT, env });
}

function check({ node, env }) {
  return runChecks(ROOT, node, env, say);
}

async function setup({ node, env }) {
  const code = await obtainEngine(node, env);
  if (code === 0) say('Muster is set up: npm start');
  return code;
}

function runFile({ node, env }, file, args) {
  return runSupervised(node, [file, ...args], { cwd: ROOT, env });
}

function obtainEngine(node, env) {
  return runSupervised(node, ['engine/obtain.ts'], { cwd: ROOT, env });
}

/** Everything below us finds Node 24 as `node`, and keeps its compiled code: that is half of a warm start. */
function environment(node) {
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'muster', 'compiled');
  const path = [dirname(node), join(ROOT, 'node_modules', '.bin'), process.env.PATH].join(delimiter);
  return { NODE_COMPILE_CACHE: cache, ...process.env, PATH: path };
}

function say(text) {
  process.stderr.write(`[muster] ${text}\n`);
}

function fail(text, code = 1) {
  say(text);
  return code;
}

process.exitCode = await main(process.argv.slice(2));
