/** `muster sessions …`: machines for a while. Opening one is in open-session.ts. */
import { writeFile } from 'node:fs/promises';
import type { Session, SessionDiagnostics, SessionEnded, SessionSshKey } from '../../api/contract/sessions.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatMicroUsd, formatSpan, formatSum, orDash } from '../format.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

export interface SessionListOptions extends PageOptions {
  status?: string;
  consumer?: string;
}

const HEAD = ['SESSION', 'STATUS', 'CONSUMER', 'GPU', 'USD/HOUR', 'COST', 'ENDS IN', 'SSH'];

export function listSessions(context: Context, _args: string[], options: SessionListOptions): Promise<ExitCode> {
  const { status, consumer } = options;
  return showPage<Session>(context, '/sessions', { status, consumer }, options, HEAD, (session) => [
    session.id,
    session.status,
    orDash(session.consumer),
    `${session.instance.gpuCount} × ${session.instance.gpu}`,
    formatMicroUsd(session.priceMicroUsdPerHour),
    formatSum(session.accruedMicroUsd),
    endsIn(session),
    orDash(session.ssh?.command),
  ]);
}

export async function getSession(context: Context, [id]: string[]): Promise<ExitCode> {
  return showSession(context, await context.api.get<Session>(pathOf(id)));
}

export async function extendSession(
  context: Context,
  [id]: string[],
  options: { hours: number; overrideReason?: string },
): Promise<ExitCode> {
  const { hours, overrideReason } = options;
  const body = { hours, ...(overrideReason === undefined ? {} : { overrideReason }) };
  return showSession(context, await context.api.post<Session>(`${pathOf(id)}/extend`, body));
}

export async function endSessions(context: Context, ids: string[], options: { yes?: boolean }): Promise<ExitCode> {
  const { terminal, api } = context;
  const what = ids.length === 1 ? `the session ${ids[0]}` : `${ids.length} sessions`;
  if (!options.yes && !(await terminal.confirm(`End ${what}? What is on the machine is lost.`, 'Say --yes.'))) {
    throw new CliError('Nothing was ended.', EXIT.failed);
  }
  for (const id of ids) {
    const { operation, session } = await api.post<SessionEnded>(`${pathOf(id)}/done`, {});
    if (terminal.isJson) terminal.printJsonLine({ operation, session });
    else if (operation === null) terminal.print(`${id} is over already: ${session.status}`);
    else terminal.print(`${id} is ending by ${operation.id}; it may cost until the provider confirms that it is gone.`);
  }
  return EXIT.done;
}

/** The private key goes to a file that only its owner can read, or to standard output. */
export async function getSessionKey(context: Context, [id]: string[], options: { out?: string }): Promise<ExitCode> {
  const { terminal } = context;
  const key = await context.api.get<SessionSshKey>(`${pathOf(id)}/ssh-key`);
  if (options.out !== undefined) {
    await writeFile(options.out, key.privateKey, { mode: 0o600, flag: 'wx' }).catch((error: Error) => {
      throw new CliError(`The key was not written: ${error.message}`, EXIT.failed);
    });
    terminal.say(`The key is in ${options.out}: ssh -i ${options.out} …`);
  } else if (terminal.isJson) terminal.printJson(key);
  else terminal.print(key.privateKey.trimEnd());
  return EXIT.done;
}

export async function diagnoseSession(context: Context, [id]: string[]): Promise<ExitCode> {
  const { terminal } = context;
  const found = await context.api.get<SessionDiagnostics>(`${pathOf(id)}/diagnostics`);
  if (terminal.isJson) {
    terminal.printJson(found);
    return EXIT.done;
  }
  terminal.print(found.summary);
  for (const attempt of found.attempts) {
    terminal.print('');
    terminal.print(`${attempt.id}  ${attempt.provider}  ${attempt.status}  ${orDash(attempt.vendorStatus)}`);
    if (attempt.failureCode !== null)
      terminal.print(`  failed: ${attempt.failureCode}: ${orDash(attempt.failureDetail)}`);
    for (const refusal of attempt.refusals) terminal.print(`  refused: ${refusal.providerOfferId}: ${refusal.reason}`);
    const { check } = attempt;
    if (check === null) continue;
    const ssh =
      check.ssh === null
        ? 'not tried'
        : check.ssh.authenticated
          ? 'lets us in'
          : check.ssh.reached
            ? 'refuses our key'
            : 'does not answer';
    const gpus = check.gpus === null ? 'unknown' : check.gpus.map((gpu) => orDash(gpu.name)).join(', ');
    terminal.print(`  last look ${check.at}: ${check.reason ?? check.verdict}; SSH ${ssh}; GPUs ${gpus}`);
  }
  for (const finding of found.findings) terminal.print(`finding ${finding.id}  ${finding.class}  ${finding.detail}`);
  return EXIT.done;
}

export function showSession(context: Context, session: Session): ExitCode {
  const { terminal } = context;
  if (terminal.isJson) {
    terminal.printJson(session);
    return EXIT.done;
  }
  terminal.print(`session       ${session.id}  ${session.status}`);
  terminal.print(`instance      ${session.instance.id}  ${session.instance.status}`);
  terminal.print(`consumer      ${orDash(session.consumer)}`);
  terminal.print(
    `price         ${formatMicroUsd(session.priceMicroUsdPerHour)} an hour, ${formatSum(session.accruedMicroUsd)} so far`,
  );
  terminal.print(`ends in       ${endsIn(session)}`);
  terminal.print(
    `ssh           ${orDash(session.ssh?.command)}${session.hasSshKey ? ' (key: muster sessions ssh-key)' : ''}`,
  );
  if (session.failureCode !== null)
    terminal.print(`failed        ${session.failureCode}: ${orDash(session.failureDetail)}`);
  return EXIT.done;
}

function endsIn(session: Session): string {
  if (session.endedAt !== null) return '-';
  return session.expiresAt === null ? 'never' : formatSpan(Math.max(0, Date.parse(session.expiresAt) - Date.now()));
}

function pathOf(id: string | undefined): string {
  return `/sessions/${encodeURIComponent(id as string)}`;
}
