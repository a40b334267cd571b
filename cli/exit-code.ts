/** How the command ends: the exit codes that scripts rely on, and the error that carries one. */

export const EXIT = {
  done: 0,
  failed: 1,
  wrongUse: 2,
  notAuthorised: 3,
  notFound: 4,
  /** No capacity, or a budget or cap in the way. */
  noCapacity: 5,
  /** Ctrl-C, as shells count it. */
  interrupted: 130,
} as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** A failure with a message for the person at the terminal. */
export class CliError extends Error {
  readonly exitCode: ExitCode;

  constructor(message: string, exitCode: ExitCode, options?: ErrorOptions) {
    super(message, options);
    this.name = 'CliError';
    this.exitCode = exitCode;
  }
}

/** The exit code for an HTTP status of the API; an operation's failure has the status that the error table gives its code. */
export function exitCodeOfStatus(status: number): ExitCode {
  if (status === 401 || status === 403) return EXIT.notAuthorised;
  if (status === 404) return EXIT.notFound;
  if (status === 507) return EXIT.noCapacity;
  if (status === 400 || status === 405 || status === 413 || status === 415 || status === 422) return EXIT.wrongUse;
  return EXIT.failed;
}

/** Codes with which an operation fails for want of capacity or money. */
const CAPACITY_CODES = new Set(['no_capacity', 'cap_exceeded', 'boot_timeout', 'budget_exceeded']);

/** The exit code for a finished operation. */
export function exitCodeOfOperation(status: string, errorCode: string | null): ExitCode {
  if (status === 'succeeded') return EXIT.done;
  return errorCode !== null && CAPACITY_CODES.has(errorCode) ? EXIT.noCapacity : EXIT.failed;
}
