/** What the commands of `muster` share: how one gets its handler, and options that many take. */
import { InvalidArgumentError, type Command, type OptionValues } from 'commander';
import type { Context } from './context.ts';
import type { ExitCode } from './exit-code.ts';

export type Handler<O> = (context: Context, args: string[], options: O) => Promise<ExitCode>;
/** Gives a command its handler, loaded on call. */
export type Attach = <O extends OptionValues>(
  command: Command,
  load: () => Promise<Handler<O>>,
  options?: { isLogin?: boolean },
) => void;

export function paged(command: Command): Command {
  return command
    .option('--limit <n>', 'items of a page, at most 500 (50)', integer)
    .option('--cursor <cursor>', 'where the page before ended')
    .option('--all', 'every page');
}

/** Of what spends or destroys. */
export function asking(command: Command): Command {
  return command.option('-y, --yes', 'do not ask').option('--watch', 'show progress until it has ended');
}

export function integer(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('It must be a whole number.');
  return Number(text);
}

export function list(text: string): string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

/** Of an option that may be repeated. */
export function collect(text: string, before: string[] | undefined): string[] {
  return [...(before ?? []), text];
}
