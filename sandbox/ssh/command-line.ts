/**
 * The few commands a simulated machine knows. There is no shell behind it: words with quotes, and lists joined by
 * `;`, `&&` and `||`. Anything else is "command not found", exit 127, as on a bare image.
 */
import { runNvidiaSmi, type ReportedGpus } from './gpu-report.ts';

export interface CommandResult {
  stdout: string;
  stderr: string;
  exitCode: number;
}

export interface MachineFacts {
  /** Who is logged in. */
  user: string;
  hostname: string;
  upSeconds: number;
  gpus: ReportedGpus;
}

/** Runs a command line and gives what it printed and the exit code of the last command that ran. */
export function runCommandLine(line: string, facts: MachineFacts): CommandResult {
  const total: CommandResult = { stdout: '', stderr: '', exitCode: 0 };
  for (const { joint, words } of parseLine(line)) {
    if (joint === '&&' && total.exitCode !== 0) continue;
    if (joint === '||' && total.exitCode === 0) continue;
    if (words.length === 0) continue;
    const result = runCommand(words, facts);
    total.stdout += result.stdout;
    total.stderr += result.stderr;
    total.exitCode = result.exitCode;
  }
  return total;
}

function runCommand([command = '', ...args]: readonly string[], facts: MachineFacts): CommandResult {
  switch (command) {
    case 'nvidia-smi':
    case '/usr/bin/nvidia-smi':
      return runNvidiaSmi(args, facts.gpus);
    case 'echo':
      return ok(args[0] === '-n' ? args.slice(1).join(' ') : `${args.join(' ')}\n`);
    case 'hostname':
      return ok(`${facts.hostname}\n`);
    case 'uptime':
      return ok(` up ${Math.floor(facts.upSeconds / 60)} min,  1 user,  load average: 0.00, 0.00, 0.00\n`);
    case 'whoami':
      return ok(`${facts.user}\n`);
    case 'sudo':
      return runCommand(
        args.filter((word) => word !== '-n'),
        { ...facts, user: 'root' },
      );
    case 'cloud-init':
      return args[0] === 'status' ? ok('status: done\n') : { stdout: '', stderr: '', exitCode: 2 };
    case 'true':
      return ok('');
    case 'false':
      return { stdout: '', stderr: '', exitCode: 1 };
    default:
      return { stdout: '', stderr: `bash: ${command}: command not found\n`, exitCode: 127 };
  }
}

interface ListedCommand {
  joint: ';' | '&&' | '||';
  words: string[];
}

function parseLine(line: string): ListedCommand[] {
  const commands: ListedCommand[] = [{ joint: ';', words: [] }];
  const token = /\s+|(&&|\|\||;|\n)|((?:'[^']*'|"[^"]*"|\\.|[^\s;&|'"\\]|&(?!&)|\|(?!\|))+)|(.)/gy;
  for (let match = token.exec(line); match !== null; match = token.exec(line)) {
    const [, joint, word, stray] = match;
    if (joint !== undefined)
      commands.push({ joint: joint === '\n' ? ';' : (joint as ListedCommand['joint']), words: [] });
    else if (word !== undefined || stray !== undefined) commands.at(-1)!.words.push(unquote(word ?? stray ?? ''));
  }
  return commands;
}

function unquote(word: string): string {
  return word.replace(/'([^']*)'|"([^"]*)"|\\(.)/g, (_all, single?: string, double?: string, escaped?: string) => {
    return single ?? double ?? escaped ?? '';
  });
}

function ok(stdout: string): CommandResult {
  return { stdout, stderr: '', exitCode: 0 };
}
