/**
 * The shim: the text that the engine stores with every dynamic resource and runs again for years. It captures nothing and only
 * forwards to entry.ts of the project that runs it, so a fix there reaches machines bought before it. The text is frozen: write a
 * new constant beside it rather than change it (a changed text alone changes no resource, diffMachine does not look at it).
 *
 * It is written as text, not serialised from a function: the stock serialiser takes some 200 ms and its output may change with
 * the compiler. MUSTER_PROVIDER_ENTRY is set where the project's folder is not above the working directory.
 */
import type { CrudName } from './dynamic-crud.ts';

const SHIM_TEXTS: Record<CrudName, string> = {
  vastai: shimFor('vastai'),
  tensordock: shimFor('tensordock'),
  runpod: shimFor('runpod'),
  lambda: shimFor('lambda'),
  ssh_host: shimFor('ssh_host'),
  k3s_node: shimFor('k3s_node'),
  standby_agent: shimFor('standby_agent'),
};

export function shimText(provider: CrudName): string {
  return SHIM_TEXTS[provider];
}

/** Whose known shim this is; null for any other text. */
export function providerOfShim(text: string): CrudName | null {
  const entry = Object.entries(SHIM_TEXTS).find(([, known]) => known === text);
  return entry ? (entry[0] as CrudName) : null;
}

function shimFor(provider: CrudName): string {
  return `exports.handler = () => {
  const crud = async () => {
    const fs = await import('node:fs');
    const path = await import('node:path');
    const url = await import('node:url');
    let entry = process.env.MUSTER_PROVIDER_ENTRY;
    for (let folder = process.cwd(); !entry; folder = path.dirname(folder)) {
      const here = path.join(folder, 'providers-dynamic', 'entry.ts');
      if (fs.existsSync(here)) entry = here;
      else if (folder === path.dirname(folder)) throw new Error('no providers-dynamic/entry.ts above ' + process.cwd() + '; set MUSTER_PROVIDER_ENTRY to its absolute path');
    }
    return (await import(url.pathToFileURL(entry).href)).dynamicCrud('${provider}');
  };
  return {
    check: async (olds, news) => (await crud()).check(olds, news),
    diff: async (id, olds, news) => (await crud()).diff(id, olds, news),
    create: async (inputs) => (await crud()).create(inputs),
    read: async (id, props) => (await crud()).read(id, props),
    update: async (id, olds, news) => (await crud()).update(id, olds, news),
    delete: async (id, props) => (await crud()).delete(id, props),
  };
};
`;
}
