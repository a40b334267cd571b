/**
 * Prints docs/configuration.md from the table of settings. `--write` writes the file, `--check` fails where it is out of step.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_DIR, VARIABLES } from '../config-variables.ts';
import type { Variable } from '../config-variables.ts';

const FILE = join(PROJECT_DIR, 'docs', 'configuration.md');

const INTRODUCTION = `<!-- Made by scripts/configuration-page.ts from config-variables.ts; do not edit. -->

# Configuration

Every setting is an environment variable. They are read once at start; a file \`.env\` in the project's folder is read if present,
and a variable that is really set wins over it. An empty value counts as unset. Nothing has to be set to try Muster: by default the
sandbox is on, nothing real is bought, and the database is embedded.

Wrong settings are all reported at once, each with its name, the value got (never that of a secret) and what is allowed; the
program then exits with 2 and has started nothing. A variable that begins with \`MUSTER_\` and is not listed here is pointed out.

A **secret** can also be read from a file: \`<NAME>_FILE\` names it, for example \`MUSTER_SECRETS_KEY_FILE=/run/secrets/muster-key\`.

Durations are a number and a unit: \`90 seconds\`, \`15 minutes\`, \`12 hours\`, \`2 days\`, also \`500ms\`, \`90s\`, \`15m\`, \`12h\`, \`2d\`.
`;

function renderDocument(): string {
  const variables = Object.entries(VARIABLES) as [string, Variable<unknown>][];
  const sections = [...new Set(variables.map(([, variable]) => variable.section))];
  const parts = sections.map((section) => {
    const rows = variables.filter(([, variable]) => variable.section === section).map(renderVariable);
    return `## ${section}\n\n${rows.join('\n\n')}\n`;
  });
  return [INTRODUCTION, ...parts].join('\n');
}

function renderVariable([name, variable]: [string, Variable<unknown>]): string {
  const lines = [`### \`${name}\`${variable.isSecret ? ' (secret)' : ''}`, '', variable.meaning, ''];
  lines.push(`- Allowed: ${variable.allowed}.`, `- Default: ${renderDefault(variable)}.`);
  if (variable.otherNames) {
    lines.push(`- Read when it is unset: ${variable.otherNames.map((other) => `\`${other}\``).join(', ')}.`);
  }
  return lines.join('\n');
}

function renderDefault(variable: Variable<unknown>): string {
  if (variable.default === undefined) return variable.unset ?? 'none';
  if (typeof variable.default === 'string') return `\`${variable.default}\``;
  return `\`${variable.default.sandbox}\` in the sandbox, \`${variable.default.live}\` outside it`;
}

const text = renderDocument();
if (process.argv.includes('--write')) {
  writeFileSync(FILE, text);
} else if (process.argv.includes('--check')) {
  let current = '';
  try {
    current = readFileSync(FILE, 'utf8');
  } catch {
    // A missing document is out of step like a stale one.
  }
  if (current !== text) {
    console.error(
      'docs/configuration.md is out of step with config-variables.ts: run node scripts/configuration-page.ts --write',
    );
    process.exitCode = 1;
  }
} else {
  process.stdout.write(text);
}
