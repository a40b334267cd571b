/** Commands of clusters, made at a cloud or registered. program.ts has the others. */
import { InvalidArgumentError, type Command } from 'commander';
import { asking, collect, paged, type Attach } from './program-options.ts';

const load = () => import('./commands/clusters.ts');

export function addClusters(program: Command, attach: Attach): void {
  const clusters = program.command('clusters').description('Kubernetes clusters, made at a cloud or registered');
  const list = clusters
    .command('list')
    .option('--kind <kind>', 'eks, aks, onprem or registered')
    .option('--status <list>', 'any of these, such as degraded,unavailable');
  attach(paged(list), async () => (await load()).listClusters);
  attach(clusters.command('get').argument('<id>'), async () => (await load()).getCluster);
  const create = clusters
    .command('create')
    .description('shows the plan with its price, asks, and makes exactly that')
    .requiredOption('--name <name>', 'begins the name of everything it makes')
    .requiredOption('--kind <kind>', 'eks, aks or onprem')
    .option('--place <place>', 'region at AWS, location at Azure')
    .option('--kubernetes-version <minor>', 'such as 1.34 (the newest)')
    .option('--node-group <type:min-max:capacity>', 'GPU nodes, such as g5.xlarge:0-4:spot; may be repeated', collect)
    .option(
      '--config <file>',
      "JSON with more of the stack's configuration (onprem: hosts and k3s); - for standard input",
    )
    .option('--cost-centre <label>', 'who pays: a tag on everything (the org)')
    .option('--owner <label>', 'who answers for it (you)')
    .option('--ceiling-usd-per-hour <usd>', 'what costs more is refused')
    .option('--no-protect', 'let it be deleted')
    .option('--dry-run', 'only show the plan');
  attach(asking(create), async () => (await load()).createCluster);
  const register = clusters
    .command('register')
    .description('registers a cluster that is there, by a kubeconfig with a token or certificate in it')
    .requiredOption('--name <name>')
    .requiredOption('--kubeconfig <file>', '- for standard input');
  attach(register, async () => (await load()).registerCluster);
  const replace = clusters
    .command('replace-kubeconfig')
    .description('replaces the kubeconfig of a registered cluster')
    .argument('<id>')
    .requiredOption('--kubeconfig <file>', '- for standard input');
  attach(replace, async () => (await load()).replaceKubeconfig);
  attach(
    clusters.command('kubeconfig').description('prints a kubeconfig that opens it').argument('<id>'),
    async () => (await load()).showKubeconfig,
  );
  const scale = clusters
    .command('scale')
    .argument('<id>')
    .requiredOption('--node-group <name>', 'of the GPU nodes to scale')
    .option('--min <n>', 'fewest nodes: of an autoscaled group the bound of its autoscaler', integerText)
    .option('--max <n>', 'most nodes, likewise', integerText)
    .option('--desired <n>', 'nodes now: of an autoscaled group once', integerText);
  attach(asking(planned(scale)), async () => (await load()).scaleCluster);
  const upgrade = clusters
    .command('upgrade')
    .argument('<id>')
    .requiredOption('--kubernetes-version <minor>', 'the next minor');
  attach(asking(planned(upgrade)), async () => (await load()).upgradeCluster);
  const start = clusters.command('start').description('starts a stopped AKS cluster').argument('<id>');
  attach(asking(start), async () => (await load()).startCluster);
  const stop = clusters.command('stop').description('stops a whole AKS cluster').argument('<id>');
  attach(asking(stop), async () => (await load()).stopCluster);
  const remove = clusters
    .command('delete')
    .description('destroys a cluster, or forgets a registered one; asks first')
    .argument('<id>');
  attach(asking(remove), async () => (await load()).deleteCluster);
  attach(clusters.command('nodes').argument('<id>'), async () => (await load()).showNodes);
  const enrol = clusters
    .command('enrol')
    .description('makes the token by which agents of its nodes join, where you install them yourself')
    .argument('<id>')
    .option('--namespace <name>', 'where they run (muster)');
  attach(enrol, async () => (await load()).enrolCluster);
  const revoke = clusters.command('revoke-enrolment').description('lets no further agent join').argument('<id>');
  attach(revoke, async () => (await load()).revokeEnrolment);
  attach(clusters.command('health').argument('<id>'), async () => (await load()).showHealth);
  attach(
    clusters.command('events').description('what Kubernetes warned of lately').argument('<id>'),
    async () => (await load()).showEvents,
  );
  attach(clusters.command('storage-classes').argument('<id>'), async () => (await load()).showStorageClasses);
}

function planned(command: Command): Command {
  return command.option('--dry-run', 'only show what would change, with its price');
}

function integerText(text: string): string {
  if (!/^\d{1,4}$/.test(text)) throw new InvalidArgumentError('It must be an integer.');
  return text;
}
