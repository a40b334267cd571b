/** `muster stacks pending …`: interrupted creates that nothing can tell, and saying what became of them. */
import type { z } from 'zod';
import type { decidePendingBody, stackPending } from '../../api/contract/stacks.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';

type Pending = z.infer<typeof stackPending>;
type Decision = z.infer<typeof decidePendingBody>['decisions'][number]['decision'];

export async function listPending(context: Context, [id]: string[]): Promise<ExitCode> {
  return show(context, await read(context, id));
}

export function importPending(context: Context, [id, which, cloudId]: string[]): Promise<ExitCode> {
  return decide(context, id, which as string, { kind: 'import', id: cloudId as string });
}

export async function clearPending(
  context: Context,
  [id, which]: string[],
  options: { yes?: boolean },
): Promise<ExitCode> {
  const question = `Was ${which} really not made? If it was, it is made twice, and billed twice.`;
  if (!options.yes && !(await context.terminal.confirm(question, 'Say --yes.')))
    throw new CliError('Nothing was decided.', EXIT.failed);
  return decide(context, id, which as string, { kind: 'clear' });
}

/** @param which its name, or its urn where several have that name */
async function decide(context: Context, id: string | undefined, which: string, decision: Decision): Promise<ExitCode> {
  const { items } = await read(context, id);
  const found = items.filter(({ urn, name }) => urn === which || name === which);
  const [one] = found;
  if (!one)
    throw new CliError(`Nothing is pending by the name ${which}: see muster stacks pending list.`, EXIT.notFound);
  if (found.length > 1) throw new CliError(`Several are named ${which}: say its urn.`, EXIT.wrongUse);
  const body = { decisions: [{ urn: one.urn, decision }] };
  const reply = await context.api.post<Pending>(`${pathOf(id)}/decide`, body, { isPlain: true });
  await show(context, reply);
  const open = reply.items.filter((item) => item.decision === null).length;
  context.terminal.say(open > 0 ? `${open} more to decide.` : 'The next update goes on from there.');
  return EXIT.done;
}

function read({ api }: Context, id: string | undefined): Promise<Pending> {
  return api.get<Pending>(pathOf(id));
}

async function show({ terminal }: Context, reply: Pending): Promise<ExitCode> {
  if (terminal.isJson) terminal.printJson(reply);
  else if (reply.items.length === 0) terminal.print('Nothing has to be decided.');
  else
    await terminal.printTable(
      ['NAME', 'TYPE', 'DECISION', 'FOUND', 'WHY', 'URN'],
      reply.items.map(({ name, type, decision, found, why, urn }) => [
        name,
        type,
        decision === null ? '-' : decision.kind === 'import' ? `import ${decision.id}` : 'clear',
        found.join(', ') || '-',
        why,
        urn,
      ]),
    );
  return EXIT.done;
}

function pathOf(id: string | undefined): string {
  return `/stacks/${encodeURIComponent(id as string)}/pending`;
}
