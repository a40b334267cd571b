/** Commands of pods: container workloads on nodes. program.ts has the others. */
import { Option, type Command } from 'commander';
import { collect, integer, paged, type Attach } from './program-options.ts';

const load = () => import('./commands/pods.ts');

export function addPods(program: Command, attach: Attach): void {
  const pods = program.command('pods').description('containers on nodes');
  addCreate(pods, attach);
  const list = pods
    .command('list')
    .option('--status <list>', 'any of these, such as running,pending')
    .option('--node-id <id>')
    .option('--name <name>')
    .option('--include-removed', 'those that are deleted too');
  attach(paged(list), async () => (await load()).listPods);
  attach(pods.command('get').argument('<id>'), async () => (await load()).getPod);
  const verbs = {
    stop: ['ends it; it stays stopped', 'stopPod'],
    start: ['another run of it, where there is room', 'startPod'],
    restart: ['makes its container anew', 'restartPod'],
  } as const;
  for (const [verb, [description, handler]] of Object.entries(verbs))
    attach(pods.command(verb).description(description).argument('<id>'), async () => (await load())[handler]);
  const remove = pods
    .command('delete')
    .description('removes it with its volumes; asks first')
    .argument('<id>')
    .option('-y, --yes', 'do not ask');
  attach(remove, async () => (await load()).deletePod);
  const logs = pods
    .command('logs')
    .description('what its container writes')
    .argument('<id>')
    .option('-f, --follow', 'until it has ended, or Ctrl-C')
    .option('--since <time>', 'later lines only, such as 2026-11-21T09:00:00Z')
    .option('--tail <n>', 'at most so many of the last lines (200)', integer)
    .option('--timestamps', 'with the time of each line');
  attach(logs, async () => (await load()).showLogs);
}

function addCreate(pods: Command, attach: Attach): void {
  const create = pods
    .command('create')
    .description('runs a container on a node that has room; its arguments go after --')
    .option('--image <reference>', 'container image')
    .argument('[args...]')
    .option('--name <name>', 'unique in the org')
    .option('--file <path>', 'the request as JSON, as POST /pods takes it; - for standard input')
    .option('--entrypoint <program>', "instead of the image's")
    .option('--gpu-count <n>', 'GPUs that it has alone (0)', integer)
    .option('--gpu-model <model>', 'such as "RTX 4090"')
    .option('--min-gpu-memory-gib <n>', 'memory of one GPU', integer)
    .option('--cpus <n>', 'processors that it may use, and that are kept for it', Number)
    .option('--memory-mib <n>', 'memory that it may use, and that is kept for it', integer)
    .option('--node-id <id>', 'on that node only')
    .option('--instance-id <id>', 'on the machine of that instance only')
    .option('--label <NAME=value>', 'that its node must have; may be repeated', collect)
    .option('--env <NAME[=value]>', 'variable; without a value, our own; may be repeated', collect)
    .option('--secret-env <NAME>', 'variable with our own value, kept sealed; may be repeated', collect)
    .option('--port <[node:]container[/udp]>', 'published on the node; may be repeated', collect)
    .option('--mount <source:target[:ro]>', 'workspace[/path]:/target or volume/name:/target; may be repeated', collect)
    .addOption(new Option('--restart <policy>').choices(['never', 'on_failure', 'always']))
    .addOption(new Option('--on-node-lost <policy>').choices(['reschedule', 'stop']))
    .option('--registry-credential <ref>', 'name or id of the login by which the image is fetched')
    .option('--watch', 'wait until it runs or has ended');
  attach(create, async () => (await load()).createPod);
}
