/** The engine's CLI, one process for each update, on the stacks of a state service and against the simulated provider and language host. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { locateEngine } from '../../engine/locate.ts';
import { PROJECT } from './program.ts';

export interface CliRun {
  stackName: string;
  /** Where it keeps its state. */
  backend: { url: string; accessToken: string };
  /** How it tells of what it does: journal entries, or the whole state at each step. */
  transport: 'journal' | 'checkpoints';
  args: string[];
  onStart?: (process: ChildProcess) => void;
}

export interface CliResult {
  /** null: it was killed. */
  code: number | null;
  output: string;
}

export interface EngineCli {
  run(run: CliRun): Promise<CliResult>;
  close(): Promise<void>;
}

/** Throws Error where there is no engine. */
export async function openEngineCli(ports: { provider: number; language: number }): Promise<EngineCli> {
  const engine = await locateEngine({ env: process.env }, []);
  if (!engine) throw new Error('there is no engine: npm run setup');
  const folder = await mkdtemp(join(tmpdir(), 'muster-programs-'));
  await writeFile(join(folder, 'Pulumi.yaml'), `name: ${PROJECT}\nruntime: nodejs\nmain: .\n`);
  const environment = {
    PATH: process.env['PATH'] ?? '',
    PULUMI_DEBUG_PROVIDERS: `sim:${ports.provider}`,
    PULUMI_DEBUG_LANGUAGES: `nodejs:${ports.language}`,
    PULUMI_SKIP_UPDATE_CHECK: 'true',
    PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: 'true',
    PULUMI_OPTION_SKIP_PLUGIN_PRE_INSTALL: 'true',
    PULUMI_JOURNALING_BATCH_PERIOD: '1',
    GOGC: '400',
  };
  return {
    async run({ stackName, backend, transport, args, onStart }) {
      // One for each stack: the CLI takes the token that it finds there for others of the same address too.
      const home = join(folder, stackName);
      await mkdir(home, { recursive: true });
      return new Promise((resolve, reject) => {
        const common = ['--stack', `organization/${PROJECT}/${stackName}`, '--non-interactive', '--color', 'never'];
        const child = spawn(engine.path, [...args, ...common], {
          cwd: folder,
          env: {
            ...environment,
            HOME: home,
            PULUMI_HOME: home,
            PULUMI_BACKEND_URL: backend.url,
            PULUMI_ACCESS_TOKEN: backend.accessToken,
            ...(transport === 'checkpoints' ? { PULUMI_DISABLE_JOURNALING: 'true' } : {}),
          },
          stdio: ['ignore', 'pipe', 'pipe'],
        });
        onStart?.(child);
        const chunks: Buffer[] = [];
        for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => chunks.push(chunk));
        child.once('error', reject);
        child.once('close', (code) => resolve({ code, output: Buffer.concat(chunks).toString('utf8') }));
      });
    },
    close: () => rm(folder, { recursive: true, force: true }),
  };
}
