/** An inline program on the real engine with a state backend of the caller's choice, in this process: one update at a time. */
import { execFile } from 'node:child_process';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { LocalWorkspace, PulumiCommand, Stack } from '@pulumi/pulumi/automation/index.js';
import semver from 'semver';
import { ENGINE_ENVIRONMENT } from '../../automation/engine/child/open-stack.ts';
import { locateEngine } from '../../engine/locate.ts';

const run = promisify(execFile);

export interface EngineStackOptions {
  /** Where its folders are made. */
  folder: string;
  name: string;
  /** @default PROJECT_NAME */
  project?: string;
  program: () => Promise<Record<string, unknown>>;
  /** Which backend, and who asks it. */
  backend: Record<string, string>;
  cloudPorts: Record<string, number>;
}

export const PROJECT_NAME = 'proj';

/** Makes the stack. Throws Error where there is no engine. */
export async function openEngineStack(options: EngineStackOptions): Promise<Stack> {
  Error.stackTraceLimit = 1; // as in the operation child: every call of the SDK captures a stack
  const engine = await locateEngine({ env: process.env }, []);
  if (!engine) throw new Error('no engine');
  const Command = PulumiCommand as unknown as new (path: string, version: semver.SemVer | null) => PulumiCommand;
  const workspace = await LocalWorkspace.create({
    workDir: await mkdtemp(join(options.folder, 'work-')),
    program: options.program,
    pulumiCommand: new Command(engine.path, semver.parse(engine.version)),
    projectSettings: { name: options.project ?? PROJECT_NAME, runtime: 'nodejs', main: process.cwd() },
    envVars: {
      ...ENGINE_ENVIRONMENT,
      PULUMI_HOME: await mkdtemp(join(options.folder, 'home-')),
      PULUMI_DEBUG_PROVIDERS: Object.entries(options.cloudPorts)
        .map(([name, port]) => `${name}:${port}`)
        .join(','),
      PULUMI_DIY_BACKEND_NO_LEGACY_WARNING: '1',
      ...options.backend,
    },
  });
  return Stack.createOrSelect(options.name, workspace);
}

/** A command of the engine's CLI on the stack's workspace. @returns its output without the last line's end */
export async function runCli({ workspace }: Stack, ...args: string[]): Promise<string> {
  const { command } = workspace.pulumiCommand;
  const env = { ...workspace.envVars, PATH: process.env['PATH'] ?? '', HOME: workspace.envVars['PULUMI_HOME'] ?? '' };
  const { stdout } = await run(command, [...args, '--non-interactive', '--color', 'never'], {
    cwd: workspace.workDir,
    env,
    maxBuffer: 64 * 1024 * 1024,
  });
  return stdout.trimEnd();
}
