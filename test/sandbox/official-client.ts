/**
 * The vendor's own client for Vast.ai, in a Python environment outside the project that all test runs share.
 * Made on first use; a run without Python or without a package index gets the reason instead.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { type CommandOutput, installPythonTool, runProgram } from './python-tool.ts';

const VERSION = '1.9.1';

export interface OfficialClient {
  /** A `vastai` against `url`, ready for many commands. */
  openCli(url: string, home: string): OfficialCli;
  /** Runs a Python program that may import vastai. */
  python(home: string, program: string, args: readonly string[]): Promise<CommandOutput>;
}

export interface OfficialCli {
  /** Runs `vastai …` as a person would, in a process of its own. One at a time. */
  run(...args: string[]): Promise<CommandOutput>;
  close(): void;
}

/** Resolves with the client, or with the reason why there is none. */
export async function installOfficialClient(): Promise<OfficialClient | { missing: string }> {
  const installed = await installPythonTool('vastai', VERSION);
  if ('missing' in installed) return installed;
  const { python } = installed;
  return {
    openCli: (url, home) => openCli(python, url, home),
    python: (home, program, args) => runProgram(python, ['-c', program, ...args], clientEnvironment(home)),
  };
}

/**
 * Loading the client takes a second of processor time, a command a few milliseconds: so it is loaded once, and each
 * command runs in a fork of that, which reads and forgets its arguments as a fresh start would.
 */
const FORK_SERVER = `
import json, os, sys, tempfile, traceback
from vastai.cli.main import main
for line in sys.stdin:
    streams = [tempfile.TemporaryFile() for _ in range(2)]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number, stream in enumerate(streams, start=1):
                os.dup2(stream.fileno(), number)
            sys.argv = ["vastai", *json.loads(line)]
            main()
            code = 0
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else 0
            if isinstance(exit.code, str):
                print(exit.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = []
    for stream in streams:
        stream.seek(0)
        texts.append(stream.read().decode())
    print(json.dumps({"exitCode": code, "stdout": texts[0], "stderr": texts[1]}), flush=True)
`;

function openCli(python: string, url: string, home: string): OfficialCli {
  const server = spawn(python, ['-c', FORK_SERVER], {
    env: clientEnvironment(home),
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const answers = createInterface({ input: server.stdout })[Symbol.asyncIterator]();
  return {
    async run(...args) {
      server.stdin.write(`${JSON.stringify([...args, '--url', url])}\n`);
      const answer = await answers.next();
      if (answer.done === true) throw new Error('the official client ended');
      return JSON.parse(answer.value) as CommandOutput;
    },
    close: () => server.stdin.end(),
  };
}

/** A home of its own: the client keeps a key and a cache in it. */
function clientEnvironment(home: string): NodeJS.ProcessEnv {
  return {
    PATH: process.env['PATH'],
    LANG: 'C.UTF-8',
    VAST_API_KEY: 'sandbox',
    VASTAI_NO_UPDATE_CHECK: '1',
    HOME: home,
    XDG_CONFIG_HOME: home,
    XDG_CACHE_HOME: home,
  };
}
