/** `muster provision`: opens a session on one offer of the inventory; shows the price and asks before it spends. */
import type { ProvisionPlan } from '../../api/contract/instances.ts';
import type { CreateSessionInput, SessionAccepted } from '../../api/contract/sessions.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatMicroUsd } from '../format.ts';
import { readTextOption } from '../terminal.ts';
import { reportEnd, watchOperation } from '../watch-operation.ts';
import { showSession } from './sessions.ts';

export interface ProvisionOptions {
  offerId: string;
  consumer?: string;
  hours?: number;
  purpose?: string;
  maxLifetime?: string;
  overrideReason?: string;
  sshPublicKeyFile?: string;
  dryRun?: boolean;
  yes?: boolean;
  watch?: boolean;
}

export async function provision(context: Context, _args: string[], options: ProvisionOptions): Promise<ExitCode> {
  const { terminal, api } = context;
  const body = await buildBody(options);
  const planHash = options.yes && !options.dryRun ? null : await agree(context, body, options.dryRun === true);
  if (options.dryRun) return EXIT.done;
  const accepted = await api.post<SessionAccepted>('/sessions', planHash === null ? body : { ...body, planHash });
  if (terminal.isJson) (options.watch ? terminal.printJsonLine : terminal.printJson)(accepted);
  else showSession(context, accepted.session);
  if (!options.watch) return EXIT.done;
  const code = reportEnd(terminal, await watchOperation(api, terminal, accepted.operation.id));
  showSession(context, await api.get(`/sessions/${accepted.session.id}`));
  return code;
}

async function buildBody(options: ProvisionOptions): Promise<CreateSessionInput> {
  const { offerId, consumer, hours, purpose, overrideReason, maxLifetime, sshPublicKeyFile } = options;
  const key =
    sshPublicKeyFile === undefined ? undefined : await readTextOption('--ssh-public-key-file', sshPublicKeyFile);
  return {
    offerId,
    ...(consumer === undefined ? {} : { consumer }),
    ...(hours === undefined ? {} : { hours }),
    ...(purpose === undefined ? {} : { purpose }),
    ...(overrideReason === undefined ? {} : { overrideReason }),
    ...(maxLifetime === undefined ? {} : { maxLifetime: maxLifetime === 'none' ? null : maxLifetime }),
    ...(key === undefined ? {} : { sshPublicKeys: [key.trim()] }),
  };
}

/** Shows the price; the hash of the plan agreed to. */
async function agree(context: Context, body: CreateSessionInput, isDryRun: boolean): Promise<string> {
  const { terminal, api } = context;
  const plan = await api.post<ProvisionPlan>('/sessions', { ...body, dryRun: true }, { isPlain: true });
  if (isDryRun && terminal.isJson) terminal.printJson(plan);
  else
    (terminal.isJson ? terminal.say : terminal.print)(
      `The offer costs ${formatMicroUsd(plan.priceMicroUsdPerHour)} an hour.`,
    );
  if (plan.candidates.length === 0) throw new CliError('It cannot be bought now; nothing was rented.', EXIT.noCapacity);
  if (!isDryRun && !(await terminal.confirm('Rent it?', 'Say --yes.'))) {
    throw new CliError('Nothing was rented.', EXIT.failed);
  }
  return plan.planHash;
}
