/** Commands of nodes, and of the credentials that open hosts and registries. program.ts has the others. */
import type { Command } from 'commander';
import { asking, collect, integer, paged, type Attach } from './program-options.ts';

export function addNodes(program: Command, attach: Attach): void {
  const nodes = program.command('nodes').description('hosts that run our agent: rented, of clusters, or your own');
  const load = () => import('./commands/nodes.ts');
  const list = nodes
    .command('list')
    .option('--status <status>', 'installing, online, stale or gone')
    .option('--instance-id <id>')
    .option('--cluster-id <id>');
  attach(paged(list), async () => (await load()).listNodes);
  attach(nodes.command('get').argument('<id>'), async () => (await load()).getNode);
  const add = nodes
    .command('add')
    .description('adds a host of your own, over SSH')
    .requiredOption('--address <address>', 'name or address')
    .requiredOption('--host-key <fingerprint>', 'SHA256:…, as ssh-keygen -lf prints it on the host')
    .requiredOption('--credential <ref>', 'name or id of its SSH private key (muster credentials add)')
    .option('--port <n>', 'of its SSH server (22)', integer)
    .option('--user <name>', 'root, or one who may use sudo without a password (root)')
    .option('--name <name>', "its stack's")
    .option('--label <NAME=value>', 'may be repeated', collect)
    .option('--agent-dir <path>', 'where the agent lies (/var/lib/muster-agent)')
    .option('--node-path <path>', "the Node that runs the agent (the PATH's)")
    .option('--watch', 'show progress until it has ended');
  attach(add, async () => (await load()).addNode);
  const remove = asking(
    nodes.command('delete').description('uninstalls the agent and forgets the host').argument('<id>'),
  );
  remove.option('--forget', 'it is dead for ever: let go what cannot be uninstalled');
  attach(remove, async () => (await load()).deleteNode);
  const verbs = {
    cordon: ['keeps new work away', 'cordonNode'],
    uncordon: ['lets it take work again', 'uncordonNode'],
    drain: ['keeps work away and moves its pods elsewhere', 'drainNode'],
  } as const;
  for (const [verb, [description, handler]] of Object.entries(verbs))
    attach(nodes.command(verb).description(description).argument('<id>'), async () => (await load())[handler]);
  addCredentials(program, attach);
}

function addCredentials(program: Command, attach: Attach): void {
  const credentials = program
    .command('credentials')
    .description('what opens machines of your own, and what fetches images');
  const load = () => import('./commands/credentials.ts');
  attach(paged(credentials.command('list')), async () => (await load()).listCredentials);
  const keep = credentials
    .command('add')
    .description('keeps an SSH private key, or with --registry a login of a registry, sealed')
    .requiredOption('--name <name>', 'by which hosts and pods refer to it')
    .requiredOption('--file <path>', 'the key, without a passphrase, or user:password; - for standard input')
    .option('--registry <host>', 'whose login it is, such as ghcr.io or docker.io');
  attach(keep, async () => (await load()).addCredential);
  attach(credentials.command('delete').argument('<id>'), async () => (await load()).deleteCredential);
}
