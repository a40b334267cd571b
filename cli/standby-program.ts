/** The commands of `muster` about standbys and their drills. */
import { Option, type Command } from 'commander';
import { asking, paged, type Attach } from './program-options.ts';

export function addStandbys(program: Command, attach: Attach): void {
  const load = () => import('./commands/standbys.ts');
  const standby = program.command('standby').description('machines that take over for an instance, and their drills');
  const list = standby
    .command('list')
    .option('--instance-id <id>')
    .option('--status <list>', 'any of these, such as warm,serving');
  attach(paged(list), async () => (await load()).listStandbys);
  attach(
    standby.command('get').description('one standby, with how old its data is').argument('<id>'),
    async () => (await load()).getStandby,
  );
  const create = standby
    .command('create')
    .description('shows the plan with its price, asks, and makes exactly that')
    .requiredOption('--instance-id <id>', 'for which it stands by')
    .requiredOption('--name <name>', 'begins the name of everything it makes')
    .requiredOption('--rpo <duration>', 'how old the data may be at most, such as "5 minutes"')
    .addOption(new Option('--state <state>', 'while nothing has failed (stopped)').choices(['warm', 'stopped']))
    .option('--project <id>', 'at Google')
    .option('--zone <zone>', 'such as europe-west4-a')
    .option('--fallback-zone <zone>', 'where it runs when the first has no room')
    .option('--config <file>', "JSON with more of the stack's configuration; - for standard input")
    .option('--cost-centre <label>', 'who pays: a tag on everything (the org)')
    .option('--owner <label>', 'who answers for it (you)')
    .option('--ceiling-usd-per-hour <usd>', 'what costs more is refused')
    .option('--protect', 'refuse to delete it')
    .option('--dry-run', 'only show the plan');
  attach(asking(create), async () => (await load()).createStandby);
  const remove = standby.command('delete').description('destroys a standby; asks first').argument('<id>');
  attach(asking(remove), async () => (await load()).deleteStandby);
  const drill = standby
    .command('drill')
    .description('loses a machine on purpose, and judges how it is failed over')
    .argument('<id>')
    .option('--consent', 'on a real workload: its machine is taken away')
    .option('--detection <duration>', 'within which the loss is noticed ("20 seconds")')
    .option('--rto <duration>', 'within which it is served again')
    .option('--rpo <duration>', 'how old the data may be (as the standby says)')
    .option('--cost-usd <usd>', 'what all of it may cost');
  attach(asking(drill), async () => (await load()).drillStandby);
  const drills = standby
    .command('drills')
    .option('--standby-id <id>')
    .option('--status <list>', 'any of these, such as failed');
  attach(paged(drills), async () => (await load()).listDrills);
  const get = standby.command('show-drill').description('one drill with its figures').argument('<id>');
  attach(get, async () => (await load()).getDrill);
}
