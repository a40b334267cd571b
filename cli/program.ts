/** The commands of `muster` and their options: nouns and verbs of the API. What a command does is loaded when it is called, so that starting is quick. */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import type { OptionValues } from 'commander';
import type { ApiError } from './api-client.ts';
import type { GlobalOptions } from './context.ts';
import { addClusters } from './clusters-program.ts';
import { addFailovers } from './failover-program.ts';
import { addStandbys } from './standby-program.ts';
import { CliError, EXIT } from './exit-code.ts';
import { addMarket } from './market-program.ts';
import { addNodes } from './nodes-program.ts';
import type { Environment } from './profiles.ts';
import { addPods } from './pods-program.ts';
import { addPools } from './pools-program.ts';
import { asking, collect, integer, list, paged, type Attach, type Handler } from './program-options.ts';
import { addSessions } from './session-program.ts';
import { addSnapshots } from './snapshot-program.ts';

/** Runs one command line and tells the exit code; everything it has to say is said. */
export async function runProgram(argv: readonly string[], env: Environment): Promise<number> {
  let exitCode: number = EXIT.done;
  const attach: Attach = <O extends OptionValues>(
    command: Command,
    load: () => Promise<Handler<O>>,
    options?: { isLogin?: boolean },
  ) => {
    command.action(async (...all: unknown[]) => {
      const self = all.at(-1) as Command;
      const { createContext } = await import('./context.ts');
      const context = await createContext(self.optsWithGlobals<GlobalOptions>(), env, options?.isLogin);
      const handle = await load();
      // A variadic argument arrives as a list of its own.
      exitCode = await handle(
        context,
        self.processedArgs.flat().filter((arg): arg is string => arg !== undefined),
        self.optsWithGlobals<O>(),
      );
    });
  };
  const program = buildProgram(attach, (code) => (exitCode = code));
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return exitCode;
  } catch (error) {
    const own = argv.includes('--') ? argv.slice(0, argv.indexOf('--')) : argv;
    return reportError(error, own.includes('--json'));
  }
}

export function buildProgram(attach: Attach, setExitCode: (code: number) => void): Command {
  const program = new Command('muster')
    .description('Rents, watches and destroys GPU machines through a Muster control plane.')
    .option('--json', "the API's JSON on standard output, and nothing else")
    .option('--url <url>', 'address of the control plane (MUSTER_URL, or the profile)')
    .option('--profile <name>', 'the login to use (MUSTER_PROFILE, or the last one made)')
    .showSuggestionAfterError()
    .exitOverride();
  addAccess(program, attach);
  addInventory(program, attach);
  addInstances(program, attach);
  addOperations(program, attach);
  const providers = program.command('providers').description('the vendors we rent from');
  attach(
    providers.command('list').description('in what state each is, and why'),
    async () => (await import('./commands/providers.ts')).listProviders,
  );
  attach(
    program.command('fleet').description('what is rented now and what it costs'),
    async () => (await import('./commands/fleet.ts')).showFleet,
  );
  addPools(program, attach);
  addSnapshots(program, attach);
  addSessions(program, attach);
  addStacks(program, attach);
  addNodes(program, attach);
  addPods(program, attach);
  addClusters(program, attach);
  addStandbys(program, attach);
  addCosts(program, attach);
  addMarket(program, attach);
  program
    .command('completion')
    .description('prints the completion script of a shell')
    .argument('<shell>', 'bash, zsh or fish')
    .action(async (shell: string) => {
      const { renderCompletion } = await import('./completion.ts');
      process.stdout.write(renderCompletion(program, shell));
      setExitCode(EXIT.done);
    });
  return program;
}

function addAccess(program: Command, attach: Attach): void {
  const login = program
    .command('login')
    .description('keeps a login as a profile; secrets are asked for, or come by file or environment')
    .option('--email <address>', 'log in with e-mail and password')
    .option('--password-file <path>', 'file with the password; - for standard input')
    .option('--api-key', 'log in with an API key: from MUSTER_API_KEY, or asked for')
    .option('--api-key-file <path>', 'file with the API key; - for standard input');
  attach(login, async () => (await import('./commands/login.ts')).login, { isLogin: true });
  const logout = program.command('logout').description('forgets the login of the profile, here and at the server');
  attach(logout, async () => (await import('./commands/login.ts')).logout);
}

function addInventory(program: Command, attach: Attach): void {
  const list = program
    .command('inventory')
    .description('the offers that can be rented now')
    .command('list')
    .description('lists offers, the cheapest first')
    .option('--gpu <model>', 'such as "RTX 4090"')
    .option('--gpu-count <n>', 'GPUs of the offer', integer)
    .option('--min-gpu-memory-gib <n>', 'memory of one GPU', integer)
    .option('--max-price-usd-per-hour <usd>', 'at most this price')
    .addOption(new Option('--max-price <usd>').hideHelp())
    .option('--provider <name>')
    .option('--region <country>', 'two letters')
    .option('--min-reliability <share>', 'from 0 to 1', share)
    .option('--interruptible', 'prices of what may be taken away again')
    .addOption(new Option('--sort <by>').choices(['price', '-price', 'price_per_gpu', 'reliability', 'memory']));
  attach(paged(list), async () => withShortPrice((await import('./commands/inventory.ts')).listInventory));
}

function addInstances(program: Command, attach: Attach): void {
  const instances = program.command('instances').description('rented machines');
  addCreate(instances, attach);
  const list = instances
    .command('list')
    .option('--status <list>', 'any of these, such as ready,booting')
    .option('--name <name>')
    .option('--consumer <label>')
    .option('--provider <name>');
  attach(paged(list), async () => (await import('./commands/instances.ts')).listInstances);
  const get = instances.command('get').description('one instance with its purchases').argument('<id>');
  attach(get, async () => (await import('./commands/instances.ts')).getInstance);
  const destroy = instances
    .command('destroy')
    .description('gives instances back for good; asks first')
    .argument('<id...>')
    .option('-y, --yes', 'do not ask')
    .option('--watch', 'wait until the provider confirms that it is gone');
  attach(destroy, async () => (await import('./commands/instances.ts')).destroyInstances);
  const hibernate = instances
    .command('hibernate')
    .description('copies its files, verifies the copy, and gives its machine back')
    .argument('<id>')
    .option('--reason <text>', 'kept in the audit log')
    .option('--watch', 'wait until it sleeps');
  attach(hibernate, async () => (await import('./commands/hibernation.ts')).hibernateInstance);
  const wake = instances
    .command('wake')
    .description('shows the price, asks, and brings it back with its files')
    .argument('<id>')
    .option('--dry-run', 'show the price and wake nothing')
    .option('-y, --yes', 'do not ask')
    .option('--watch', 'show progress until it is ready');
  attach(wake, async () => (await import('./commands/hibernation.ts')).wakeInstance);
  const ssh = instances
    .command('ssh')
    .description("opens it with the system's ssh, directly; a command goes after --")
    .argument('<id>')
    .argument('[command...]')
    .option('-i, --identity-file <path>', 'the private key to show');
  attach(ssh, async () => (await import('./commands/instance-ssh.ts')).sshToInstance);
  const metrics = instances
    .command('metrics')
    .description('what its agent measures: GPUs, load and memory, one line a minute')
    .argument('<id>')
    .option('--minutes <n>', 'how far back, at most 1440');
  attach(metrics, async () => (await import('./commands/instance-metrics.ts')).showMetrics);
  const events = instances
    .command('events')
    .description('prints what happens to it, until it is destroyed')
    .argument('<id>');
  attach(events, async () => (await import('./commands/instances.ts')).followInstance);
  addFailovers(program, instances, attach);
}

function addCreate(instances: Command, attach: Attach): void {
  const create = instances
    .command('create')
    .description('shows candidates and price, asks, and rents')
    .requiredOption('--gpu <model>', 'such as "RTX 4090"')
    .option('--max-price-usd-per-hour <usd>', 'of one instance with all its GPUs and its disk')
    .addOption(new Option('--max-price <usd>').hideHelp())
    .option('--name <name>')
    .option('--gpu-count <n>', 'GPUs of one instance (1)', integer)
    .option('--min-gpu-memory-gib <n>', 'memory of one GPU', integer)
    .option('--count <n>', 'how many instances (1)', integer)
    .option('--disk-gib <n>', 'disk of one instance (40)', integer)
    .option('--image <reference>', 'container image')
    .option('--providers <list>', 'such as vastai (any)', list)
    .option('--regions <list>', 'two-letter countries, such as SE,US (any)', list)
    .option('--min-reliability <share>', 'from 0 to 1', share)
    .option('--interruptible', 'cheaper, and may be taken away again')
    .option('--bid <usd>', 'what to bid for an interruptible machine, disk not included')
    .option('--on-interruption <policy>', 'rebid, replace or give_up (replace)')
    .option('--strategy <name>', 'race, round_robin, coldstart or serverless (race)')
    .option('--race-width <n>', 'machines bought at once for each instance (5)', integer)
    .option('--max-race-cost-usd <usd>', 'most that the losers of a race may cost (0.25)')
    .option('--ssh-public-key-file <path>', 'who may log in; may be repeated (~/.ssh/id_*.pub)', collect)
    .option('--no-ssh-public-key', "only the deployment's own key")
    .option('--env <NAME[=value]>', 'variable on the machine; without a value, our own; may be repeated', collect)
    .option('--on-start-file <path>', 'shell commands for the first start; - for standard input')
    .option('--max-lifetime <duration>', 'hard stop, such as "4 hours"; none needs a reason')
    .option('--override-reason <text>', 'why it may live longer than the deployment allows')
    .option('--boot-timeout <duration>', 'how long a machine may take to become ready')
    .option('--hibernate-when-idle [duration]', 'put to sleep after so long without work (3 minutes)')
    .option('--idle-below-percent <n>', 'what counts as no work of its GPUs (5)', Number)
    .addOption(new Option('--failover <mode>', 'when its machine is lost').choices(['off', 'replace', 'standby']))
    .option('--rpo <duration>', 'with --failover: how old its files may be then ("5 minutes")')
    .option('--consumer <label>', 'to whom the cost is attributed')
    .option('--dry-run', 'show the plan and rent nothing')
    .option('-y, --yes', 'do not ask')
    .option('--watch', 'show progress until it is ready');
  attach(create, async () => withShortPrice((await import('./commands/create-instances.ts')).createInstances));
}

function addOperations(program: Command, attach: Attach): void {
  const operations = program.command('operations').description('durable units of work');
  const list = operations
    .command('list')
    .option('--status <list>', 'any of queued,running,succeeded,failed,canceled')
    .option('--kind <kind>')
    .option('--target-id <id>');
  attach(paged(list), async () => (await import('./commands/operations.ts')).listOperations);
  const get = operations.command('get').argument('<id>');
  attach(get, async () => (await import('./commands/operations.ts')).getOperation);
  const watch = operations.command('watch').description('shows progress until it has finished').argument('<id>');
  attach(watch, async () => (await import('./commands/operations.ts')).watch);
  const cancel = operations
    .command('cancel')
    .description('stops it; what it has bought is destroyed')
    .argument('<id>')
    .option('--reason <text>', 'kept in the audit log')
    .option('--watch', 'wait until it has stopped');
  attach(cancel, async () => (await import('./commands/operations.ts')).cancelOperation);
}

function addStacks(program: Command, attach: Attach): void {
  const stacks = program
    .command('stacks')
    .description('clusters, standbys and stores: what programs make of cloud resources');
  const load = () => import('./commands/stacks.ts');
  const list = stacks
    .command('list')
    .option('--kind <kind>', 'eks, aks, onprem, onprem-node, standby, snapshots or dns-record')
    .option('--status <list>', 'any of these, such as up,failed');
  attach(paged(list), async () => (await load()).listStacks);
  attach(stacks.command('get').argument('<id>'), async () => (await load()).getStack);
  const create = stacks
    .command('create')
    .description('records a stack; nothing is made yet')
    .requiredOption('--name <name>', 'begins the name of everything it makes')
    .requiredOption('--kind <kind>', 'eks, aks, onprem, onprem-node, standby, snapshots or dns-record')
    .requiredOption('--config <file>', "JSON of the kind's configuration; - for standard input")
    .requiredOption('--cost-centre <label>', 'who pays: a tag on everything')
    .option('--owner <label>', 'who answers for it (you)');
  attach(stackOptions(create), async () => (await load()).createStack);
  const change = stacks
    .command('change')
    .description('changes what it is to be; the next up carries it out')
    .argument('<id>')
    .option('--config <file>', 'JSON; - for standard input')
    .option('--protect', 'refuse to destroy it again');
  attach(stackOptions(change), async () => (await load()).changeStack);
  const preview = stacks
    .command('preview')
    .description('what an up would change, with its price')
    .argument('<id>')
    .option('--destroy', 'what a destroy would delete');
  attach(preview, async () => (await load()).previewStack);
  const up = asking(stacks.command('up').description('previews, asks, and makes exactly that').argument('<id>'));
  attach(up, async () => (await load()).upStack);
  const refresh = stacks
    .command('refresh')
    .description('learns what the clouds say of its resources')
    .argument('<id>')
    .option('--watch', 'show progress until it has ended');
  attach(refresh, async () => (await load()).refreshStack);
  const destroy = asking(
    stacks.command('destroy').description('destroys everything it made; asks first').argument('<id>'),
  );
  attach(destroy, async () => (await load()).destroyStack);
  attach(stacks.command('resources').argument('<id>'), async () => (await load()).showResources);
  attach(
    stacks.command('drift').description('what an outside hand has changed').argument('<id>'),
    async () => (await load()).showDrift,
  );
  attach(stacks.command('outputs').argument('<id>'), async () => (await load()).showOutputs);
  addStacksPending(stacks, attach);
  addStacksUpdates(stacks, attach);
}

function addStacksUpdates(stacks: Command, attach: Attach): void {
  const load = () => import('./commands/stack-updates.ts');
  const history = stacks.command('history').description('its updates, of whomever, newest first').argument('<id>');
  attach(paged(history), async () => (await load()).listUpdates);
  const events = stacks
    .command('events')
    .description('what the engine tells of an update until it has ended')
    .argument('<id>')
    .argument('[update-id]', 'as in history; the newest one');
  attach(events, async () => (await load()).showEvents);
  const cancel = stacks
    .command('cancel')
    .description("stops what holds it: an operation, or the update of a person's CLI")
    .argument('<id>');
  attach(cancel, async () => (await load()).cancelStack);
}

function addStacksPending(stacks: Command, attach: Attach): void {
  const pending = stacks.command('pending').description('interrupted creates that somebody has to decide');
  const load = () => import('./commands/stack-pending.ts');
  attach(pending.command('list').argument('<id>'), async () => (await load()).listPending);
  const take = pending
    .command('import')
    .description('it was made: the next update takes it over')
    .argument('<id>')
    .argument('<name-or-urn>')
    .argument('<cloud-id>', "the cloud's id of what was made");
  attach(take, async () => (await load()).importPending);
  const clear = pending
    .command('clear')
    .description('it was not made: the next update makes it; asks first')
    .argument('<id>')
    .argument('<name-or-urn>')
    .option('-y, --yes', 'do not ask');
  attach(clear, async () => (await load()).clearPending);
}

function stackOptions(command: Command): Command {
  return command
    .option('--ceiling-usd-per-hour <usd>', 'what costs more is refused')
    .option('--no-protect', 'let it be destroyed')
    .option('--on-drift <policy>', 'report or repair (report)');
}

function addCosts(program: Command, attach: Attach): void {
  const costs = program.command('costs').description('what machines have cost');
  const list = costs
    .command('list')
    .description('costs added up by instance, or by another group')
    .addOption(new Option('--group-by <group>').choices(['instance', 'session', 'consumer', 'provider', 'gpu', 'day']))
    .option('--consumer <label>')
    .option('--instance-id <id>')
    .option('--session-id <id>')
    .option('--provider <name>')
    .option('--from <time>', 'from this moment on, such as 2026-11-01T00:00:00Z')
    .option('--to <time>', 'up to this moment');
  attach(paged(list), async () => (await import('./commands/costs.ts')).listCosts);
  const summary = costs
    .command('summary')
    .description('a month at a glance')
    .option('--month <month>', 'such as 2026-11 (this one)');
  attach(summary, async () => (await import('./commands/costs.ts')).showCostSummary);
}

/** `--max-price` is what people type. */
function withShortPrice<O extends { maxPriceUsdPerHour?: string }>(
  handler: Handler<O>,
): Handler<O & { maxPrice?: string }> {
  return (context, args, options) => {
    const maxPriceUsdPerHour = options.maxPriceUsdPerHour ?? options.maxPrice;
    return handler(context, args, maxPriceUsdPerHour === undefined ? options : { ...options, maxPriceUsdPerHour });
  };
}

function share(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value <= 1))
    throw new InvalidArgumentError('It must be a number from 0 to 1.');
  return value;
}

/** Tells what went wrong on standard error; with `--json` the problem document of the API, as it came. */
function reportError(error: unknown, isJson: boolean): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.wrongUse;
  if (!(error instanceof CliError)) throw error;
  const problem = (error as Partial<ApiError>).problem;
  if (isJson && problem) process.stderr.write(`${JSON.stringify(problem)}\n`);
  else process.stderr.write(`${error.exitCode === EXIT.interrupted ? '' : 'muster: '}${error.message}\n`);
  if (error.exitCode === EXIT.notAuthorised && !isJson)
    process.stderr.write('Log in with "muster login", or set MUSTER_API_KEY.\n');
  return error.exitCode;
}
