/** The stack as the engine is given it: one process per update, no log, settings that nobody overrides by accident. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Stack } from '@pulumi/pulumi/automation/index.js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openStack } from '../../../../automation/engine/child/open-stack.ts';
import { locateEngine } from '../../../../engine/locate.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-open-'));
});

afterEach(() => rm(folder, { recursive: true, force: true }));

function open(environment: Record<string, string> = {}): Promise<Stack> {
  return openStack({
    settings: { enginePath: '/no/engine', engineVersion: '3.259.0', projectRoot: process.cwd(), scratchDir: folder },
    stackName: 'some',
    workDir: folder,
    program: async () => ({}),
    attached: { 'pulumi-nodejs': 4001, aws: 4002 },
    environment,
  });
}

describe('an opened stack', () => {
  it('starts no process to be opened, and none for outputs or history', async () => {
    const stack = await open();
    expect(await stack.outputs()).toEqual({});
    expect(await stack.info()).toBeUndefined();
  });

  it('names every attached provider, and hands on where the state is', async () => {
    const { envVars } = (await open({ PULUMI_BACKEND_URL: 'http://127.0.0.1:1' })).workspace;
    expect(envVars).toMatchObject({
      PULUMI_DEBUG_PROVIDERS: 'pulumi-nodejs:4001,aws:4002',
      PULUMI_BACKEND_URL: 'http://127.0.0.1:1',
      PULUMI_HOME: join(folder, 'home'),
    });
  });

  it('keeps its own settings of the engine whatever a cloud brings', async () => {
    const { envVars } = (await open({ PULUMI_PARALLEL_DIFF: 'false', AWS_REGION: 'eu-west-1' })).workspace;
    expect(envVars).toMatchObject({ PULUMI_PARALLEL_DIFF: 'true', AWS_REGION: 'eu-west-1' });
  });

  it('lets the engine write no log, in the first update and in those after it', async () => {
    const engine = await locateEngine({ env: process.env }, []);
    if (!engine) throw new Error('no engine');
    await open();
    const { envVars } = (await open()).workspace;
    const { stdout } = await promisify(execFile)(engine.path, ['version'], { env: { ...envVars, HOME: folder } });
    expect(stdout).toContain('3.');
    expect(await readFile(join(folder, 'home', 'logs'), 'utf8')).toBe('');
  });
});
