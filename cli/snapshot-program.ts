/** The commands about workspaces and snapshots. */
import type { Command } from 'commander';
import { integer, list, paged, type Attach } from './program-options.ts';

const load = () => import('./commands/snapshots.ts');

export function addSnapshots(program: Command, attach: Attach): void {
  const snapshots = program.command('snapshots').description('what workspaces were, kept beyond their machines');
  const listed = snapshots
    .command('list')
    .description('newest first')
    .option('--instance <id>', 'of one instance')
    .option('--status <list>', 'such as verified,failed', list);
  attach(paged(listed), async () => (await load()).listSnapshots);
  attach(snapshots.command('get').argument('<id>'), async () => (await load()).getSnapshot);
  const create = snapshots
    .command('create')
    .description('copies the workspace of an instance, and reads the copy back')
    .argument('<instance>')
    .option('--watch', 'until it is verified');
  attach(create, async () => (await load()).createSnapshot);
  const verify = snapshots
    .command('verify')
    .description('reads every byte back once more')
    .argument('<id>')
    .option('--watch', 'until it ended');
  attach(verify, async () => (await load()).verifySnapshot);
  const restore = snapshots
    .command('restore')
    .description("makes an instance's workspace what a snapshot was; asks first")
    .argument('<instance>')
    .option('--snapshot <id>', 'which one (the newest verified)')
    .option('--node <id>', "where (the instance's machine)")
    .option('--watch', 'until it ended')
    .option('-y, --yes', 'do not ask');
  attach(restore, async () => (await load()).restoreSnapshot);
  const remove = snapshots
    .command('delete')
    .description('deletes snapshots and their data; asks first')
    .argument('<id...>')
    .option('-y, --yes', 'do not ask');
  attach(remove, async () => (await load()).deleteSnapshots);
  const workspace = snapshots
    .command('workspace')
    .description("an instance's workspace: who writes it, what is safe, what it costs; changes what is said")
    .argument('<instance>')
    .option('--every <duration>', 'how old the newest verified snapshot may be, or "off"')
    .option('--keep-last <n>', 'how many of the newest stay', integer)
    .option('--keep-daily <n>', 'of how many days one stays', integer)
    .option('--keep-weekly <n>', 'of how many weeks one stays', integer);
  attach(workspace, async () => (await load()).showWorkspace);
}
