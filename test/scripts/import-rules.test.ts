import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const PROJECT = join(import.meta.dirname, '..', '..');

/** A house in small that keeps every rule; each test adds files that break one. */
const HOUSE: Record<string, string> = {
  'main.ts': `import './api/app.ts'; import './automation/worker.ts';`,
  'domain/money.ts': `export const money = 1; export type Money = number;`,
  'db/rows.ts': `import '../domain/money.ts'; import '../secrets/seal.ts';`,
  'secrets/seal.ts': `import 'node:crypto';`,
  'api/app.ts': `import './contract/instance.ts'; import '../db/rows.ts'; import '../stacks/vm/config.ts';`,
  'api/contract/instance.ts': `import 'zod'; import type { Money } from '../../domain/money.ts'; export type Price = Money;`,
  'automation/worker.ts': `import '../db/rows.ts'; import '../providers-dynamic/vastai/client.ts'; import '../engine/locate.ts';`,
  'automation/engine/child/run.ts': `import '@pulumi/pulumi'; import '../../../stacks/vm/program.ts';`,
  'engine/locate.ts': `export const engine = 1;`,
  'providers-dynamic/vastai/client.ts': `import '../../domain/money.ts';`,
  'providers-dynamic/vastai/resource.ts': `import '@pulumi/pulumi'; import './client.ts';`,
  'components/gpu.ts': `import '@pulumi/pulumi'; import '../providers-dynamic/vastai/resource.ts';`,
  'stacks/vm/config.ts': `import 'zod'; export const config = 1;`,
  'stacks/vm/program.ts': `import './config.ts'; import '../../components/gpu.ts';`,
  'cli/muster.ts': `import '../api/contract/instance.ts';`,
  'sandbox/vendor.ts': `import type { Money } from '../domain/money.ts'; export const price: Money = 1;`,
  'node_modules/zod/package.json': `{"name":"zod","version":"1.0.0","main":"index.js"}`,
  'node_modules/zod/index.js': '',
  'node_modules/@pulumi/pulumi/package.json': `{"name":"@pulumi/pulumi","version":"1.0.0","main":"index.js"}`,
  'node_modules/@pulumi/pulumi/index.js': '',
  'package.json': `{"name":"house","type":"module","dependencies":{"zod":"1","@pulumi/pulumi":"1"}}`,
};

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-house-'));
  await put(folder, HOUSE);
  for (const file of ['.dependency-cruiser.cjs', 'tsconfig.json']) await cp(join(PROJECT, file), join(folder, file));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('the import rules', () => {
  it('let the planned house pass, and each breach is named', async () => {
    expect(await breaches(folder)).toEqual([]);
    await put(folder, {
      'domain/clock.ts': `import 'node:fs';`,
      'domain/lookup.ts': `import '../db/rows.ts';`,
      'db/queue.ts': `import '../automation/worker.ts';`,
      'secrets/store.ts': `import '../db/rows.ts';`,
      'api/starts.ts': `import '../automation/worker.ts';`,
      'api/buys.ts': `import '../providers-dynamic/vastai/client.ts';`,
      'automation/answers.ts': `import '../api/app.ts';`,
      'automation/runs.ts': `import '../stacks/vm/program.ts';`,
      'automation/talks.ts': `import '@pulumi/pulumi';`,
      'api/contract/row.ts': `import '../../db/rows.ts';`,
      'cli/peek.ts': `import '../db/rows.ts';`,
      'providers-dynamic/vastai/keeps.ts': `import '../../db/rows.ts';`,
      'sandbox/shares.ts': `import { money } from '../domain/money.ts'; export const price = money;`,
      'sandbox/cheats.ts': `import '../providers-dynamic/vastai/client.ts';`,
      'stacks/eks/config.ts': `import '../../components/gpu.ts';`,
      'engine/reads.ts': `import '../db/rows.ts';`,
      'domain/one.ts': `import './two.ts';`,
      'domain/two.ts': `import './one.ts';`,
      'domain/utils/any.ts': `export const any = 1;`,
      'domain/takes.ts': `import './utils/any.ts';`,
      'api/typed.ts': `import type { Nothing } from './nowhere.ts'; export type N = Nothing;`,
      'engine/tested.ts': `import '../test/support.ts';`,
      'test/support.ts': ``,
      'main.ts': `import './api/app.ts'; import './automation/worker.ts'; import './automation/engine/child/run.ts';`,
    });
    expect(await breaches(folder)).toEqual(
      [
        'domain-is-pure: domain/clock.ts',
        'domain-is-pure: domain/lookup.ts',
        'db-imports: db/queue.ts',
        'secrets-imports: secrets/store.ts',
        'api-and-automation-meet-in-the-operation-row: api/starts.ts',
        'api-imports: api/starts.ts',
        'api-imports: api/buys.ts',
        'automation-and-api-meet-in-the-operation-row: automation/answers.ts',
        'automation-imports: automation/answers.ts',
        'automation-imports: automation/runs.ts',
        'programs-stay-in-the-child: automation/runs.ts',
        'pulumi-stays-in-the-child: automation/talks.ts',
        'contract-is-portable: api/contract/row.ts',
        'cli-imports: cli/peek.ts',
        'providers-dynamic-imports: providers-dynamic/vastai/keeps.ts',
        'sandbox-takes-domain-types-only: sandbox/shares.ts',
        'sandbox-imports: sandbox/cheats.ts',
        'stack-config-is-schema-only: stacks/eks/config.ts',
        'engine-imports: engine/reads.ts',
        'engine-imports: engine/tested.ts',
        'product-never-imports-tests: engine/tested.ts',
        'no-circular: domain/one.ts',
        'no-nameless-folders: domain/takes.ts',
        'no-unresolved: api/typed.ts',
        'main-never-reaches-pulumi: main.ts',
      ].sort(),
    );
  });
});

async function put(into: string, files: Record<string, string>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(into, name)), { recursive: true });
    await writeFile(join(into, name), text);
  }
}

/** `rule: file` for each rule and file, once. */
function breaches(root: string): Promise<string[]> {
  const cruiser = join(PROJECT, 'node_modules', 'dependency-cruiser', 'bin', 'dependency-cruiser.mjs');
  const sources = [
    'main.ts',
    'domain',
    'db',
    'secrets',
    'api',
    'automation',
    'engine',
    'providers-dynamic',
    'components',
    'stacks',
    'cli',
    'sandbox',
  ];
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      [cruiser, '--config', '.dependency-cruiser.cjs', '--output-type', 'json', ...sources],
      { cwd: root, maxBuffer: 50_000_000 },
      (_, stdout, stderr) => {
        if (!stdout) return reject(new Error(stderr));
        const { summary } = JSON.parse(stdout) as {
          summary: { violations: { from: string; rule: { name: string } }[] };
        };
        resolve([...new Set(summary.violations.map(({ from, rule }) => `${rule.name}: ${from}`))].sort());
      },
    );
  });
}
