/**
 * What a container does in the sandbox: nothing is run, it is told by its image and its command. `echo`, `sleep`, `true` and `false` are known as
 * commands (also behind `sh -c`, with `exit N`); images whose name ends with one of these do what it says; all others run until they are stopped.
 *
 *   …/exit-N      ends with N after a second
 *   …/crash       ends with 1 at once
 *   …/run-N       ends with 0 after N seconds
 */
export interface Program {
  /** What it writes at its start. */
  output: { stream: 'stdout' | 'stderr'; text: string }[];
  /** null: until it is stopped. */
  endsAfterMs: number | null;
  exitCode: number;
}

/** A line a second, while it runs: so there is something to follow. */
export const TICK_MS = 1_000;

export function programOf(image: string, command: readonly string[]): Program {
  const name = image.split('/').at(-1)?.split(/[:@]/)[0] ?? '';
  const [, kind, number] = /^(exit|run)-(\d{1,6})$/.exec(name) ?? [];
  if (kind === 'exit') return endsWith(Number(number), 1_000, [`${name} begins`]);
  if (kind === 'run') return endsWith(0, 1_000 * Number(number), [`${name} begins`]);
  if (name === 'crash')
    return { ...endsWith(1, 0, []), output: [{ stream: 'stderr', text: 'crash: it cannot go on' }] };
  return (
    runCommand(command) ?? { output: [{ stream: 'stdout', text: `${name} begins` }], endsAfterMs: null, exitCode: 0 }
  );
}

/** null: none that is known. */
function runCommand(command: readonly string[]): Program | null {
  const [program = '', ...args] = command;
  if (/(^|\/)(ba)?sh$/.test(program) && args[0] === '-c') return runScript(args[1] ?? '');
  return runWords(program, args);
}

/** Statements one after another; one that is not known makes the whole script unknown. */
function runScript(script: string): Program | null {
  const sum: Program = endsWith(0, 0, []);
  for (const statement of script.split(/;|&&|\n/).map((text) => text.trim())) {
    if (statement === '') continue;
    const words = statement.split(/\s+/);
    const [program = '', ...args] = words[0] === 'exec' ? words.slice(1) : words;
    if (program === 'exit') return { ...sum, exitCode: Number(args[0] ?? 0) & 255 };
    const one = runWords(program, args);
    if (one === null) return null;
    sum.output.push(...one.output);
    sum.endsAfterMs = sum.endsAfterMs === null || one.endsAfterMs === null ? null : sum.endsAfterMs + one.endsAfterMs;
    sum.exitCode = one.exitCode;
  }
  return sum;
}

function runWords(program: string, args: readonly string[]): Program | null {
  if (program === 'echo') return endsWith(0, 0, [args.join(' ').replace(/^["']|["']$/g, '')]);
  if (program === 'sleep') return endsWith(0, 1_000 * (Number(args[0]) || 0), []);
  if (program === 'true') return endsWith(0, 0, []);
  return program === 'false' ? endsWith(1, 0, []) : null;
}

function endsWith(exitCode: number, endsAfterMs: number, lines: string[]): Program {
  return { output: lines.map((text) => ({ stream: 'stdout' as const, text })), endsAfterMs, exitCode };
}
