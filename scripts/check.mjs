/**
 * The checks of `npm run check`: each a tool with its arguments. All run, two at a time, and every failure is shown; the first one is not the last word.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { stopWithUs } from './supervise.mjs';

const AT_ONCE = 2;
/** What the tools remember of unchanged files: a second check takes a third of the time. */
const CACHE = 'node_modules/.cache/muster';

/** Runs every check; resolves to 0 when all passed, else 1. */
export async function runChecks(root, node, env, say) {
  const waiting = listChecks(root);
  const failed = [];
  const runNext = async () => {
    for (let check = waiting.shift(); check; check = waiting.shift()) {
      const startedAt = Date.now();
      const { code, output } = await runTool(root, node, env, check.args);
      const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
      say(`${code === 0 ? 'ok    ' : 'FAILED'} ${check.name} (${seconds} s)`);
      if (code === 0) continue;
      failed.push(check.name);
      process.stdout.write(`${output.trimEnd()}\n`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, runNext));
  say(failed.length === 0 ? 'All checks passed.' : `${failed.length} failed: ${failed.join(', ')}`);
  return failed.length === 0 ? 0 : 1;
}

function listChecks(root) {
  // The linter and the import rules are given folders: a new one is covered from its first file.
  const sources = readdirSync(root, { withFileTypes: true })
    .filter((entry) =>
      entry.isDirectory() ? !/^(\.|node_modules$|docs$|coverage$)/.test(entry.name) : /\.(ts|mjs)$/.test(entry.name),
    )
    .map((entry) => entry.name);
  const checks = [
    {
      name: 'types',
      args: [
        'node_modules/typescript/bin/tsc',
        '-p',
        '.',
        '--pretty',
        'false',
        '--incremental',
        '--tsBuildInfoFile',
        `${CACHE}/types.json`,
      ],
    },
    { name: 'lint', args: ['node_modules/oxlint/bin/oxlint', '--type-aware', '--deny-warnings', ...sources] },
    {
      name: 'import rules',
      args: [
        'node_modules/dependency-cruiser/bin/dependency-cruiser.mjs',
        '--config',
        '.dependency-cruiser.cjs',
        '--output-type',
        'err-long',
        ...sources,
      ],
    },
    {
      name: 'formatting',
      args: [
        'node_modules/prettier/bin/prettier.cjs',
        '--check',
        '--log-level',
        'warn',
        '--cache',
        '--cache-location',
        `${CACHE}/formatting`,
        '.',
      ],
    },
    { name: 'OpenAPI document', args: ['api/openapi.ts', '--check'] },
    { name: 'error page', args: ['api/error-docs.ts', '--check'] },
    { name: 'configuration page', args: ['scripts/configuration-page.ts', '--check'] },
  ];
  return checks.filter(({ args: [file] }) => file.startsWith('node_modules') || existsSync(join(root, file)));
}

function runTool(cwd, node, env, args) {
  return new Promise((resolve) => {
    const child = spawn(node, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    const release = stopWithUs(child);
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
    child.once('close', (code) => {
      release();
      resolve({ code, output });
    });
  });
}
