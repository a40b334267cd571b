/**
 * The vendors of the world: the four simulated ones at their real wire, on the world's clock, spoken to by the real clients. They keep the
 * truth, so that the promises are judged by what is, not by what was told.
 */
import { PROVIDER_NAMES, type ProviderName } from '../../domain/provider.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import type { ProviderClient } from '../../providers-dynamic/provider-client.ts';
import { createProviderClient } from '../../providers-dynamic/provider-clients.ts';
import { startSandbox } from '../../sandbox/server.ts';
import { createSeededRandom } from '../support/seeded-random.ts';
import { CALLS, drawManners, LIES, SPELL_SWITCHES, SPELLS, USUAL, type Spell, type Trouble } from './world-spells.ts';

/** What is at a vendor, whatever it tells. */
export interface WorldMachine {
  provider: ProviderName;
  id: string;
  label: string;
  isForeign: boolean;
  /** Through the API: nobody put it there. */
  isBought: boolean;
  isInterruptible: boolean;
  isHostLost: boolean;
  createdAt: number;
  /** null: it is there. */
  goneAt: number | null;
  /** Calls that would change it. */
  touches: number;
}

export interface WorldVendors {
  client(provider: ProviderName): ProviderClient;
  /** How long lists lag this week. */
  readonly listLagMs: number;
  /** Every machine that ever was. */
  machines(): WorldMachine[];
  alive(provider: ProviderName): WorldMachine[];
  place(provider: ProviderName, label: string, isForeign: boolean): Promise<string>;
  /** Its host dies or returns, its GPU goes to somebody else. */
  strike(machine: WorldMachine, what: 'host_loss' | 'host_return' | 'outbid' | 'reclaim'): Promise<void>;
  /** Somebody does this in the vendor's console. Not where the vendor does not answer. */
  useConsole(machine: WorldMachine, what: 'destroy' | 'stop' | 'start'): Promise<void>;
  cast(provider: ProviderName, spell: Spell, forMs: number): Promise<void>;
  /** Ends the spells whose time is over, or all. */
  endSpells(all?: boolean): void;
  /** Whether its listings may be false and believed. */
  isLying(provider: ProviderName): boolean;
  /** Only good days from now on. */
  calm(): void;
  advance(ms: number): Promise<void>;
  close(): Promise<void>;
}

/** Real time that a silent vendor costs; on a busy machine an answer takes some of it too. */
const REQUEST_TIMEOUT_MS = 1_500;
/** Real time too: the code waits for it with the clock of its process. */
const LIST_LAG_MS = 150;

export async function startWorldVendors(seed: number, now: () => number): Promise<WorldVendors> {
  const random = createSeededRandom(seed * 31);
  const listLagMs = random.chance(0.4) ? LIST_LAG_MS : 0;
  const sandbox = await startSandbox({
    dir: null,
    port: 0,
    seed,
    offers: 60,
    hasForeignMachines: true,
    switches: Object.fromEntries(PROVIDER_NAMES.map((name) => [name, drawManners(name, random, listLagMs)])),
  });
  const clients = new Map(
    PROVIDER_NAMES.map((provider) => {
      const settings = {
        apiKey: sandbox.apiKey,
        baseUrl: sandbox.urls[provider],
        requestTimeoutMs: REQUEST_TIMEOUT_MS,
      };
      const limiter = { acquire: () => Promise.resolve(), slowDown: () => Promise.resolve() };
      return [provider, createProviderClient(provider, settings, limiter)];
    }),
  );
  const spells: { provider: ProviderName; spell: Spell; until: number }[] = [];
  const add = async (provider: ProviderName, { call, ...fault }: Trouble, forMs?: number): Promise<void> => {
    const endpoint = call === '*' || call === 'machine' ? call : CALLS[provider][call];
    await sandbox.addFault({ provider, endpoint, ...fault, ...(forMs === undefined ? {} : { forMs }) });
  };
  for (const provider of PROVIDER_NAMES) for (const trouble of USUAL) await add(provider, trouble);

  const machines = (): WorldMachine[] => {
    const state = sandbox.state();
    return PROVIDER_NAMES.flatMap((provider) =>
      state[provider].machines.map((machine) => ({
        provider,
        id: String(machine.id),
        label: machine.label,
        isForeign: machine.origin === 'foreign',
        isBought: machine.origin === 'bought',
        isInterruptible: machine.isInterruptible,
        isHostLost: machine.isHostLost,
        createdAt: machine.createdAtMs,
        goneAt: machine.destroyedAtMs,
        touches: machine.changeCalls,
      })),
    );
  };
  const endSpells = (all = false): void => {
    const over = spells.filter(({ until }) => all || until <= now());
    for (const ended of over) {
      spells.splice(spells.indexOf(ended), 1);
      const switches = SPELL_SWITCHES[ended.spell];
      const isStillOn = spells.some((one) => one.provider === ended.provider && one.spell === ended.spell);
      if (switches && !isStillOn) sandbox.setSwitches(ended.provider, switches.off);
    }
  };

  return {
    client: (provider) => clients.get(provider) as ProviderClient,
    listLagMs,
    machines,
    alive: (provider) => machines().filter((machine) => machine.provider === provider && machine.goneAt === null),
    async place(provider, label, isForeign) {
      const origin = isForeign ? 'foreign' : 'orphan';
      return String(await sandbox.placeMachine(provider, { label, origin, isStopped: false }));
    },
    async strike({ provider, id }, kind) {
      await sandbox.addFault({ provider, endpoint: 'machine', kind, match: { instanceId: id } });
    },
    async useConsole({ provider, id }, what) {
      const client = clients.get(provider) as ProviderClient;
      await client[what](id).catch((error: unknown) => {
        if (!(error instanceof ProviderError)) throw error;
      });
    },
    async cast(provider, spell, forMs) {
      spells.push({ provider, spell, until: now() + forMs });
      for (const trouble of SPELLS[spell] as Trouble[]) await add(provider, trouble, forMs);
      const switches = SPELL_SWITCHES[spell];
      if (switches) sandbox.setSwitches(provider, switches.on);
    },
    endSpells,
    isLying: (provider) => spells.some((one) => one.provider === provider && LIES.has(one.spell)),
    calm() {
      endSpells(true);
      sandbox.clearFaults();
    },
    advance: (ms) => sandbox.advance(ms),
    close: () => sandbox.close(),
  };
}
