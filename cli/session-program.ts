/** Commands of sessions: `muster provision` and `muster sessions`. program.ts has the others. */
import { InvalidArgumentError, type Command } from 'commander';
import { paged, type Attach } from './program-options.ts';

const load = () => import('./commands/sessions.ts');

export function addSessions(program: Command, attach: Attach): void {
  const provision = program
    .command('provision')
    .description('opens a session on one offer; shows the price and asks')
    .requiredOption('--offer-id <id>', 'of muster inventory list')
    .option('--consumer <label>', 'to whom the cost is attributed')
    .option('--hours <n>', 'until it ends', hours)
    .option('--purpose <text>')
    .option('--ssh-public-key-file <path>', 'who may log in (none: a key is made, see sessions ssh-key)')
    .option('--max-lifetime <duration>', 'how far its end can be moved; none needs a reason')
    .option('--override-reason <text>', 'why it may live longer than the deployment allows')
    .option('--dry-run', 'show the price and rent nothing')
    .option('-y, --yes', 'do not ask')
    .option('--watch', 'show progress until it is open');
  attach(provision, async () => (await import('./commands/open-session.ts')).provision);
  const sessions = program.command('sessions').description('machines for a while');
  const list = sessions
    .command('list')
    .option('--status <list>', 'any of these, such as opening,open')
    .option('--consumer <label>');
  attach(paged(list), async () => (await load()).listSessions);
  attach(sessions.command('get').argument('<id>'), async () => (await load()).getSession);
  for (const verb of ['done', 'destroy']) {
    const end = sessions
      .command(verb)
      .description('ends sessions and gives their machines back; asks first')
      .argument('<id...>')
      .option('-y, --yes', 'do not ask');
    attach(end, async () => (await load()).endSessions);
  }
  const extend = sessions
    .command('extend')
    .description('moves its end')
    .argument('<id>')
    .requiredOption('--hours <n>', 'added to its end', hours)
    .option('--override-reason <text>', 'why it may last longer than it was bound to');
  attach(extend, async () => (await load()).extendSession);
  const key = sessions
    .command('ssh-key')
    .description('the private key that was made for it')
    .argument('<id>')
    .option('--out <path>', 'a new file, mode 600, instead of standard output');
  attach(key, async () => (await load()).getSessionKey);
  const diagnostics = sessions.command('diagnostics').description('what was tried and found').argument('<id>');
  attach(diagnostics, async () => (await load()).diagnoseSession);
}

function hours(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value > 0)) throw new InvalidArgumentError('It must be a number of hours above 0.');
  return value;
}
