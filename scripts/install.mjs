/**
 * The installed packages: whether node_modules is what package-lock.json says, and `npm ci` when it is not. Starts at the same time wait for one of them.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { acquireProcessLock } from './process-lock.mjs';
import { stopWithUs } from './supervise.mjs';

const STAMP = '.muster-lock';
const TRIES = 2;
const TICK_MS = 10_000;
const OUTPUT_KEPT = 4_000;

/** Makes node_modules match the lock file. Throws with the commands tried and the end of npm's output. Costs milliseconds when nothing changed. */
export async function installPackages(root, say) {
  if (isInstalled(root)) return;
  const onWait = () => say('Another start is installing the packages; waiting for it.');
  const release = await acquireProcessLock(`install:${realpathSync(root)}`, { onWait });
  try {
    if (isInstalled(root)) return;
    await installWithNpm(root, say);
    writeStamp(root);
  } finally {
    await release();
  }
}

/** True when the stamp carries the digest of today's lock file. A node_modules made by npm itself that matches the lock gets its stamp here. */
export function isInstalled(root) {
  const stamp = join(root, 'node_modules', STAMP);
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === digestOfLock(root)) return true;
  if (!matchesLock(root)) return false;
  writeStamp(root);
  return true;
}

/** Compares npm's own record of what it put into node_modules with the lock file: same versions, nothing missing but what is optional, nothing more. */
function matchesLock(root) {
  const record = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(record)) return false;
  const wanted = packagesOf(join(root, 'package-lock.json'));
  const installed = packagesOf(record);
  for (const [path, entry] of wanted) {
    const found = installed.get(path);
    if (found ? found.version !== entry.version || found.integrity !== entry.integrity : !entry.optional) return false;
  }
  return [...installed.keys()].every((path) => wanted.has(path));
}

function packagesOf(file) {
  const { packages } = JSON.parse(readFileSync(file, 'utf8'));
  return new Map(Object.entries(packages).filter(([path]) => path !== ''));
}

async function installWithNpm(root, say) {
  const [program, ...prefix] = npmCommand();
  const args = [...prefix, 'ci', '--include=dev', '--include=optional', '--no-audit', '--no-fund', '--loglevel=error'];
  const failures = [];
  for (let attempt = 1; attempt <= TRIES; attempt += 1) {
    say(
      attempt === 1
        ? 'Installing the packages (npm ci, usually half a minute to two minutes) …'
        : 'npm ci failed; trying once more …',
    );
    const startedAt = Date.now();
    const { code, output } = await runQuietly(program, args, root, () =>
      say(`… still installing, ${Math.round((Date.now() - startedAt) / 1000)} s`),
    );
    if (code === 0) return say(`Packages installed in ${Math.round((Date.now() - startedAt) / 1000)} s.`);
    failures.push(`attempt ${attempt}: exit ${code}\n${output.trim()}`);
  }
  throw new Error(
    `The packages could not be installed. Tried ${TRIES} times: npm ci in ${root}.\n${failures.join('\n')}\nIs the npm registry reachable (npm ping), and is the disk full?`,
  );
}

/** Under `npm start` the very npm that called us; otherwise the one on PATH. */
function npmCommand() {
  const caller = process.env.npm_execpath;
  return caller && /npm-cli\.[cm]?js$/.test(caller) && existsSync(caller) ? [process.execPath, caller] : ['npm'];
}

function runQuietly(program, args, cwd, onTick) {
  return new Promise((resolve) => {
    // npm must not take our caller's lifecycle variables for its own.
    const env = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !/^npm_(lifecycle|package|command)/.test(name)),
    );
    const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    const release = stopWithUs(child);
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk) => (output = (output + chunk).slice(-OUTPUT_KEPT)));
    const ticker = setInterval(() => onTick(), TICK_MS);
    const end = (code, text) => {
      clearInterval(ticker);
      release();
      resolve({ code, output: text });
    };
    child.once('error', (error) => end(-1, `${program}: ${error.message}`));
    child.once('close', (code, signal) => end(code ?? signal, output));
  });
}

function writeStamp(root) {
  writeFileSync(join(root, 'node_modules', STAMP), digestOfLock(root));
}

function digestOfLock(root) {
  return createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
}
