/** An error as the engine's CLI prints it: `[code] message`. Some messages it compares letter by letter; they are marked where they are thrown. */
export class StateError extends Error {
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.name = 'StateError';
    this.code = code;
  }
}

/** The CLI knows "no such stack" by the number alone. */
export function notFound(what: string): StateError {
  return new StateError(404, `Not Found: ${what}`);
}

export function badRequest(problem: string): StateError {
  return new StateError(400, `Bad Request: ${problem}`);
}

/** The CLI asks again (4 tries within 7 s) what it may; the rest it prints. */
export function databaseAway(): StateError {
  return new StateError(503, 'Service Unavailable: the database does not answer; nothing is lost, try again');
}

/** The CLI's word for an update whose right to write has ended: it gives up and says so. */
export function leaseLost(): StateError {
  return new StateError(403, 'Forbidden: The update token is invalid or has expired.');
}
