/** Commands of pools. program.ts has the others. */
import type { Command } from 'commander';
import { integer, list, paged, type Attach } from './program-options.ts';

const load = () => import('./commands/pools.ts');

export function addPools(program: Command, attach: Attach): void {
  const pools = program.command('pools').description('instances kept warm, for requests of strategy serverless');
  const listed = pools.command('list').description('what is kept warm, and what that costs');
  attach(paged(listed), async () => (await load()).listPools);
  attach(pools.command('get').argument('<id>'), async () => (await load()).getPool);
  const create = pools
    .command('create')
    .description('shows the price, asks, and keeps instances warm')
    .requiredOption('--name <name>')
    .requiredOption('--gpu <model>', 'such as "RTX 4090"')
    .requiredOption('--target <n>', 'how many are to be ready', integer)
    .requiredOption('--max-price-usd-per-hour <usd>', 'of one with all its GPUs and its disk')
    .option('--dry-run', 'show the price and keep nothing');
  attach(poolOptions(create), async () => (await load()).createPool);
  const change = pools
    .command('change')
    .description('changes what is said; asks first where that may cost more')
    .argument('<id>')
    .option('--name <name>')
    .option('--gpu <model>')
    .option('--target <n>', 'how many are to be ready', integer)
    .option('--max-price-usd-per-hour <usd>', 'of one with all its GPUs and its disk');
  attach(poolOptions(change), async () => (await load()).changePool);
  const remove = pools
    .command('delete')
    .description('ends pools and destroys what they keep warm; what was claimed stays; asks first')
    .argument('<id...>')
    .option('-y, --yes', 'do not ask');
  attach(remove, async () => (await load()).deletePools);
}

function poolOptions(command: Command): Command {
  return command
    .option('--gpu-count <n>', 'GPUs of one instance', integer)
    .option('--min-gpu-memory-gib <n>', 'memory of one GPU', integer)
    .option('--disk-gib <n>', 'disk of one instance', integer)
    .option('--image <reference>', 'container image; only requests for the same one claim')
    .option('--providers <list>', 'such as vastai (any)', list)
    .option('--regions <list>', 'two-letter countries, such as SE,US (any)', list)
    .option('--max-size <n>', 'most that may exist for it (twice the target)', integer)
    .option('--idle-shrink-after <duration>', 'how long more than is needed is kept (10 minutes)')
    .option('--idle-size <n>', 'how many are kept while nobody asks for them (1)', integer)
    .option('--consumer <label>', 'to whom it costs until it is claimed')
    .option('-y, --yes', 'do not ask');
}
