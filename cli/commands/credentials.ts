/** `muster credentials …`: what opens machines of one's own, and what fetches images. A value comes from a file, never from the command line, and is never shown. */
import type { Credential } from '../../api/contract/credentials.ts';
import type { Context } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatAge, orDash } from '../format.ts';
import { readTextOption } from '../terminal.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

const HEAD = ['CREDENTIAL', 'NAME', 'KIND', 'PUBLIC PART', 'AGE'];

export function listCredentials(context: Context, _args: string[], options: PageOptions): Promise<ExitCode> {
  const now = Date.now();
  return showPage<Credential>(context, '/credentials', {}, options, HEAD, (one) => [
    one.id,
    one.name,
    one.kind,
    orDash(one.publicPart?.split(' ').slice(0, 2).join(' ').slice(-24)),
    formatAge(one.createdAt, now),
  ]);
}

export async function addCredential(
  { api, terminal }: Context,
  _args: string[],
  options: { name: string; file: string; registry?: string },
): Promise<ExitCode> {
  const value = await readTextOption('--file', options.file);
  const { name, registry } = options;
  const body =
    registry === undefined
      ? { name, kind: 'ssh_private_key', value }
      : { name, kind: 'registry', registry, value: value.trim() };
  const made = await api.post<Credential>('/credentials', body, { isPlain: true });
  if (terminal.isJson) terminal.printJson(made);
  else if (made.kind === 'registry') terminal.print(`${made.id}  ${made.name} is kept sealed, for ${made.publicPart}.`);
  else {
    terminal.print(`${made.id}  ${made.name} is kept sealed. Let this key in on the hosts:`);
    terminal.print(orDash(made.publicPart));
  }
  return EXIT.done;
}

export async function deleteCredential({ api, terminal }: Context, [id]: string[]): Promise<ExitCode> {
  await api.delete(`/credentials/${encodeURIComponent(id as string)}`);
  terminal.say(`${id} is forgotten.`);
  return EXIT.done;
}
