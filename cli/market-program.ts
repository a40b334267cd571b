/** Commands of the market and of what watches over the fleet: prices, spot, machines, findings, sourcing, webhooks. program.ts has the others. */
import { Option, type Command } from 'commander';
import { integer, list, paged, type Attach } from './program-options.ts';

export function addMarket(program: Command, attach: Attach): void {
  addPrices(program, attach);
  addMachines(program, attach);
  addFindings(program, attach);
  addSourcing(program, attach);
  addWebhooks(program, attach);
}

function addPrices(program: Command, attach: Attach): void {
  const prices = program.command('prices').description('what one GPU costs for an hour');
  const history = prices
    .command('history')
    .description('floors over time, oldest first')
    .requiredOption('--gpu <model>', 'such as "RTX 4090"')
    .option('--provider <name>')
    .option('--interruptible', 'only of what may be taken away again')
    .addOption(new Option('--bucket <size>').choices(['hour', 'day', 'change']))
    .option('--from <time>', 'from this moment on (a day before the end)')
    .option('--to <time>', 'up to this moment (now)');
  attach(paged(history), async () => (await import('./commands/prices.ts')).listPriceHistory);
  const events = prices
    .command('events')
    .description('prints each floor that changes, until Ctrl-C')
    .option('--gpu <model>')
    .option('--provider <name>')
    .option('--interruptible', 'only of what may be taken away again');
  attach(events, async () => (await import('./commands/prices.ts')).followPrices);
  const market = program
    .command('spot')
    .description('interruptible machines')
    .command('market')
    .description('floor, saving, volatility and interruptions by GPU and provider')
    .option('--gpu <model>')
    .option('--provider <name>');
  attach(paged(market), async () => (await import('./commands/prices.ts')).listSpotMarket);
}

function addMachines(program: Command, attach: Attach): void {
  const machines = program.command('machines').description('physical machines as our attempts on them went');
  const history = machines.command('history').description('attempts, successes, times').option('--provider <name>');
  attach(paged(history), async () => (await import('./commands/machines.ts')).listMachineHistory);
  const get = machines.command('get').description('one, with its denylistings').argument('<provider>');
  attach(get.argument('<machine-id>'), async () => (await import('./commands/machines.ts')).getMachine);
  const denylist = machines.command('denylist').description('machines on which nothing is bought');
  const listed = denylist.command('list').option('--provider <name>');
  attach(paged(listed), async () => (await import('./commands/machines.ts')).listDenylist);
  const add = denylist
    .command('add')
    .description('buys nothing on it for a while; what runs on it stays')
    .argument('<provider>')
    .argument('<machine-id>')
    .requiredOption('--reason <text>', 'kept in the audit log')
    .option('--for <duration>', 'how long (24 hours)');
  attach(add, async () => (await import('./commands/machines.ts')).denylistMachine);
  const lift = denylist.command('lift').description('forgives it').argument('<provider>').argument('<machine-id>');
  attach(lift, async () => (await import('./commands/machines.ts')).liftDenylisting);
}

function addFindings(program: Command, attach: Attach): void {
  const findings = program
    .command('findings')
    .description('what is recorded otherwise than the providers list it, and drift of stacks');
  const listed = findings
    .command('list')
    .option('--status <list>', 'any of open,resolving,resolved,ignored')
    .option('--class <list>', 'such as orphan,drift')
    .option('--provider <list>')
    .option('--stack-id <id>');
  attach(paged(listed), async () => (await import('./commands/findings.ts')).listFindings);
  const destroy = findings
    .command('destroy')
    .description('destroys its machine; asks first')
    .argument('<id>')
    .option('--reason <text>', 'kept in the audit log')
    .option('-y, --yes', 'do not ask');
  attach(destroy, async () => (await import('./commands/findings.ts')).destroyFound);
  const adopt = findings
    .command('adopt')
    .description('makes an instance of its machine, which goes on billing')
    .argument('<id>')
    .option('--name <name>')
    .option('--consumer <label>', 'to whom the cost is attributed')
    .option('--max-lifetime <duration>', 'hard stop, from now')
    .option('--override-reason <text>', 'why it may live longer than the deployment allows')
    .option('--reason <text>', 'kept in the audit log');
  attach(adopt, async () => (await import('./commands/findings.ts')).adoptFound);
  const repair = findings
    .command('repair')
    .description("undoes a stack's drift: a refresh, then an up")
    .argument('<id>')
    .option('--reason <text>', 'kept in the audit log');
  attach(repair, async () => (await import('./commands/findings.ts')).repairFound);
  const ignore = findings
    .command('ignore')
    .description('leaves it as it is; it goes on billing')
    .argument('<id>')
    .requiredOption('--reason <text>', 'why it may stay')
    .option('--until <time>', 'then it is open again (for good)');
  attach(ignore, async () => (await import('./commands/findings.ts')).ignoreFound);
}

function addSourcing(program: Command, attach: Attach): void {
  const sourcing = program.command('sourcing').description('machines kept ready by rules');
  const rules = sourcing.command('rules').description('how many of which, at what price');
  attach(paged(rules.command('list')), async () => (await import('./commands/sourcing.ts')).listRules);
  const create = rules
    .command('create')
    .description('what it leads to is for MUSTER_SOURCING of the deployment to say')
    .requiredOption('--name <name>')
    .requiredOption('--gpu <model>', 'such as "RTX 4090"')
    .requiredOption('--target <n>', 'how many are to be ready', integer)
    .requiredOption('--max-price-usd-per-hour <usd>', 'of one with all its GPUs and its disk');
  attach(ruleOptions(create), async () => (await import('./commands/sourcing.ts')).createRule);
  const change = rules
    .command('change')
    .argument('<id>')
    .option('--name <name>')
    .option('--gpu <model>')
    .option('--target <n>', 'how many are to be ready', integer)
    .option('--max-price-usd-per-hour <usd>');
  attach(ruleOptions(change), async () => (await import('./commands/sourcing.ts')).changeRule);
  const remove = rules.command('delete').description('what it rented stays').argument('<id>');
  attach(remove, async () => (await import('./commands/sourcing.ts')).deleteRule);
  const found = sourcing.command('candidates').description('what was found for each rule');
  attach(paged(found), async () => (await import('./commands/sourcing.ts')).listCandidates);
}

function ruleOptions(command: Command): Command {
  return command
    .option('--gpu-count <n>', 'GPUs of one instance', integer)
    .option('--providers <list>', 'such as vastai (any)', list)
    .option('--regions <list>', 'two-letter countries, such as SE,US (any)', list)
    .option('--consumer <label>', 'to whom the cost is attributed')
    .addOption(new Option('--enabled <yes|no>').choices(['yes', 'no']));
}

function addWebhooks(program: Command, attach: Attach): void {
  const webhooks = program.command('webhooks').description('addresses that are told what happens');
  attach(paged(webhooks.command('list')), async () => (await import('./commands/webhooks.ts')).listWebhooks);
  const create = webhooks
    .command('create')
    .description('shows its secret, this once')
    .argument('<address>', 'https')
    .option('--events <list>', 'such as instance.*,finding.opened (all)', list)
    .option('--description <text>');
  attach(create, async () => (await import('./commands/webhooks.ts')).createWebhook);
  const remove = webhooks.command('delete').argument('<id>').option('-y, --yes', 'do not ask');
  attach(remove, async () => (await import('./commands/webhooks.ts')).deleteWebhook);
  const test = webhooks.command('test').description('sends it a test event').argument('<id>');
  attach(test, async () => (await import('./commands/webhooks.ts')).testWebhook);
  const deliveries = webhooks
    .command('deliveries')
    .description('what it was told, and what it answered')
    .argument('<id>')
    .option('--status <list>', 'such as pending,failed');
  attach(paged(deliveries), async () => (await import('./commands/webhooks.ts')).listDeliveries);
}
