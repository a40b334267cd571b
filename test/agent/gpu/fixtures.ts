/** Recorded answers of nvidia-smi, and a scripted one that answers with them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunSmi } from '../../../agent/gpu/run-smi.ts';
import type { SmiResult } from '../../../agent/gpu/smi-failure.ts';

const FOLDER = join(import.meta.dirname, '..', '..', 'fixtures', 'gpu-agent');

export const fixture = (name: string): string => readFileSync(join(FOLDER, name), 'utf8');

/** The columns of the recorded tables. */
export const FIXTURE_FIELDS = [
  'index',
  'uuid',
  'name',
  'memory.total',
  'memory.used',
  'utilization.gpu',
  'temperature.gpu',
  'power.draw',
  'mig.mode.current',
  'ecc.errors.uncorrected.volatile.total',
];

export interface Failure {
  rc: number | null;
  stdout?: string;
  stderr?: string;
  hang?: boolean;
}

export const failures = JSON.parse(fixture('failures.json')) as Failure[];

export const exited = (code: number | null, stdout: string, stderr = ''): SmiResult => ({
  code,
  stdout,
  stderr,
  end: 'exited',
});

export const asResult = ({ rc, stdout = '', stderr = '', hang }: Failure): SmiResult =>
  hang === true ? { code: null, stdout, stderr, end: 'timeout' } : exited(rc, stdout, stderr);

/** Answers CSV queries from a recorded table by the names of the fields asked for; fields that it lacks are not available. */
export function answerFromTable(table: string): (args: readonly string[]) => SmiResult | undefined {
  const rows = table
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(',').map((cell) => cell.trim()));
  return (args) => {
    const fields = args
      .find((arg) => arg.startsWith('--query-gpu='))
      ?.slice(12)
      .split(',');
    if (fields === undefined) return undefined;
    const only = args.includes('-i') ? args[args.indexOf('-i') + 1] : undefined;
    const wanted = rows.filter((row) => only === undefined || row[0] === only);
    const lines = wanted.map((row) =>
      fields.map((field) => row[FIXTURE_FIELDS.indexOf(field)]?.replace(/ (MiB|%|W)$/, '') ?? '[N/A]').join(', '),
    );
    return exited(0, `${lines.join('\n')}\n`);
  };
}

/** The first answer that fits, else "not available"; what was asked is kept. */
export function scriptedSmi(
  ...answers: ((args: readonly string[]) => SmiResult | undefined)[]
): RunSmi & { asked: string[] } {
  const asked: string[] = [];
  const run: RunSmi = (args) => {
    asked.push(args.join(' '));
    return Promise.resolve(answers.map((answer) => answer(args)).find((one) => one !== undefined) ?? exited(3, ''));
  };
  return Object.assign(run, { asked });
}
