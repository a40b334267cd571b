/** Opens a stack for one update: one CLI process, its program inline, its providers attached, its state where the caller says. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  LocalWorkspace,
  PulumiCommand,
  Stack,
  type OutputMap,
  type StackSettings,
} from '@pulumi/pulumi/automation/index.js';
import semver from 'semver';
import type { ChildSettings } from '../protocol.ts';
import { PROJECT } from '../state-backend.ts';

export interface StackOpening {
  settings: Pick<ChildSettings, 'enginePath' | 'engineVersion' | 'projectRoot' | 'scratchDir'>;
  stackName: string;
  stackSettings?: StackSettings;
  workDir: string;
  program: () => Promise<Record<string, unknown>>;
  /** By Pulumi's name of the package: what the engine dials instead of starting a plugin. */
  attached: Record<string, number>;
  /** Where the state is and who asks for it, and what the engine's plugins need. May hold secrets. */
  environment: Record<string, string>;
}

/** What an update costs, never what it does. */
export const ENGINE_ENVIRONMENT = {
  // Steps wait until their entry is written, half of this on average before it is sent: at the default of 50 ms no faster than files.
  PULUMI_JOURNALING_BATCH_PERIOD: '2',
  // Else providers are asked for one difference after the other, while everything waits.
  PULUMI_PARALLEL_DIFF: 'true',
  PULUMI_SKIP_UPDATE_CHECK: 'true',
  PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: 'true',
  PULUMI_OPTION_SKIP_PLUGIN_PRE_INSTALL: 'true',
  PULUMI_AUTOMATION_API_SKIP_VERSION_CHECK: 'true',
  GOGC: '400',
} as const;

/** The stack has to be there. */
export async function openStack(opening: StackOpening): Promise<Stack> {
  const { settings, stackName, attached } = opening;
  const workspace = await LocalWorkspace.create({
    workDir: opening.workDir,
    pulumiCommand: getCommand(settings),
    program: opening.program,
    projectSettings: { name: PROJECT, runtime: 'nodejs', main: settings.projectRoot },
    stackSettings: { [stackName]: opening.stackSettings ?? {} },
    envVars: {
      ...opening.environment,
      ...ENGINE_ENVIRONMENT,
      PULUMI_HOME: prepareHome(settings.scratchDir),
      PULUMI_DEBUG_PROVIDERS: Object.entries(attached)
        .map(([name, port]) => `${name}:${port}`)
        .join(','),
    },
  });
  // One CLI process per update: the stack is named on the command line, results come from events.
  workspace.selectStack = async () => {};
  const stack = await Stack.select(stackName, workspace);
  const slim = stack as unknown as { outputs(): Promise<OutputMap>; info(): Promise<undefined> };
  slim.outputs = async () => ({});
  slim.info = async () => undefined;
  return stack;
}

/**
 * The engine writes what it does to a log in its home, with every property of every resource: a third of its time with many resources, and
 * values in the log that belong in no log. It has no switch for it, but goes on without where the folder cannot be made.
 */
function prepareHome(scratchDir: string): string {
  const home = join(scratchDir, 'home');
  mkdirSync(home, { recursive: true, mode: 0o700 });
  const logs = join(home, 'logs');
  if (!existsSync(logs)) writeFileSync(logs, '');
  return home;
}

let command: PulumiCommand | undefined;

/** Made once: the public factory starts a CLI process only to ask its version, which the worker has checked already. */
function getCommand(settings: StackOpening['settings']): PulumiCommand {
  if (!command) {
    const Constructor = PulumiCommand as unknown as new (
      binary: string,
      version: semver.SemVer | null,
    ) => PulumiCommand;
    command = new Constructor(settings.enginePath, semver.parse(settings.engineVersion));
  }
  return command;
}
