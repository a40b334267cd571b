/** The commands of `muster` about failovers: where a workload is, what happens when its machine is lost, and what happened. */
import { Option, type Command } from 'commander';
import { integer, paged, type Attach } from './program-options.ts';

/** @param instances the noun `instances`, to which some of them belong */
export function addFailovers(program: Command, instances: Command, attach: Attach): void {
  const load = () => import('./commands/failovers.ts');
  const endpoint = instances.command('endpoint').description('where its workload is reached now').argument('<id>');
  attach(endpoint, async () => (await load()).showEndpoint);
  const failover = instances
    .command('failover')
    .description('fences its machine and goes on elsewhere; asks first')
    .argument('<id>')
    .requiredOption('--reason <text>', 'kept in the audit log')
    .addOption(new Option('--mode <mode>', 'as its policy says').choices(['replace', 'standby']))
    .option('--accept-data-loss', 'also where no snapshot was ever verified')
    .option('-y, --yes', 'do not ask')
    .option('--watch', 'show progress until it is over');
  attach(failover, async () => (await load()).failOver);
  const policy = instances
    .command('failover-policy')
    .description('what happens by itself when it loses its machine; with --mode, from now on')
    .argument('<id>')
    .addOption(new Option('--mode <mode>').choices(['off', 'replace', 'standby']))
    .option('--rpo <duration>', 'how old the data may be at most ("5 minutes")')
    .option('--max-price-usd-per-hour <usd>', 'of the replacement')
    .option('--budget-usd-per-day <usd>', 'for failovers that begin by themselves')
    .option('--cooldown <duration>', 'between two failovers ("10 minutes")')
    .option('--max-per-day <n>', 'that begin by themselves (4)', integer)
    .addOption(new Option('--failback <how>', 'from the standby').choices(['automatic', 'manual']));
  attach(policy, async () => (await load()).failoverPolicy);
  const failovers = program.command('failovers').description('failovers, with their phases, times and costs');
  const list = failovers
    .command('list')
    .option('--instance-id <id>')
    .option('--phase <list>', 'any of these, such as serving,provisioning');
  attach(paged(list), async () => (await load()).listFailovers);
  const get = failovers.command('get').description('one failover, phase by phase').argument('<id>');
  attach(get, async () => (await load()).getFailover);
}
