/**
 * The vendor's behaviours that are inferred, reported differently by different people, or worth making worse.
 * A switch is a standing property of the simulated vendor; something that happens to single calls is a fault.
 * Kinds in the comments: [V] documented or observed, [I] inferred (providers/tensordock.md).
 */
import { z } from 'zod';

const milliseconds = z.number().int().min(0);

export const tensordockSwitchesSchema = z.strictObject({
  /** Which of three shapes the list of instances has: A `data.instances`, B `data`, C `data.attributes.instances` without details [V]. */
  listShape: z.enum(['A', 'B', 'C']),
  /** Whether rows of A and B name the forwarded ports; captures had none [V]. */
  doListsHavePorts: z.boolean(),
  /** Whether one instance is answered inside `data` [V]: live it was not. */
  isGetWrapped: z.boolean(),
  /** Whether the answer to a purchase is inside `data` [V]. */
  isCreateWrapped: z.boolean(),
  /** The HTTP status of a refused purchase: 200 with the error in the body, or 400 [V]. */
  refusalStatus: z.literal([200, 400]),
  /** What the answer to a destroy is [V]. */
  deleteStatus: z.literal([200, 204]),
  /** How statuses are written: running, Running, or stopped_disassociated / Stopped-Disassociated [V]. */
  statusStyle: z.enum(['lower', 'camel', 'snake', 'dashed']),
  /** `running` is said right from the purchase on, long before anything runs [V]. */
  saysRunningAtOnce: z.boolean(),
  /** The address follows `running` after so long: 5 to 30 s [V]. */
  ipDelayMs: milliseconds,
  /** An address that is not there yet is an empty text or no field [V]. */
  missingIp: z.enum(['empty', 'absent']),
  /**
   * What became of `port_forwards`: `remapped` to other external ports [V]; `ignored` [V]: the list is empty, and a machine without
   * an address of its own cannot be reached. With one it can; that port 22 is shown as a forward, because loopback has one port 22.
   */
  portForwards: z.enum(['remapped', 'ignored']),
  /** Whether `ssh_key` lets the key in. It does not at the vendor: only cloud-init's commands do [V]. */
  isSshKeyInstalled: z.boolean(),
  /** Every purchase with a dedicated address is refused, whatever the listing says [V]. */
  hasNoPublicIps: z.boolean(),
  /** What stopping does with the GPU: kept and billed [I], or released (`stoppeddisassociated`) [V for v0]. */
  stopKeepsGpu: z.boolean(),
  /** Every start is refused because the GPU is gone [V]. */
  isStartRefused: z.boolean(),
  /** Share of hosts that list GPUs they do not have: "No available nodes found" [V]. */
  staleHostShare: z.number().min(0).max(1),
  /** GPUs that are out of stock though listed, by our names; `*` is everything. */
  drought: z.array(z.string()),
  /** How long new machines miss from the list, and destroyed ones stay in it [I]. */
  listLagMs: milliseconds,
  /** `documented`: 100 calls a minute for the organisation [V]; `off`: none. */
  rateLimits: z.enum(['off', 'documented']),
  /** Whether answers tell the limit [V], and refusals when to come again; the names are [I]. */
  hasRateLimitHeaders: z.boolean(),
  /** Prices of all offers as a factor of their normal price. Machines keep theirs. */
  priceFactor: z.number().min(0.01).max(100),
  /** What the status of a machine becomes whose host is lost [I]. */
  hostLossStatus: z.enum(['error', 'stopped', 'running']),
  /** From purchase to running; null follows the time mode. */
  bootMs: z.tuple([milliseconds, milliseconds]).nullable(),
  /** What the account was given, before charges; below $1 purchases are refused [V]. */
  creditUsd: z.number(),
});
export type TensordockSwitches = z.infer<typeof tensordockSwitchesSchema>;

export const DEFAULT_TENSORDOCK_SWITCHES: TensordockSwitches = {
  listShape: 'A',
  doListsHavePorts: false,
  isGetWrapped: false,
  isCreateWrapped: true,
  refusalStatus: 200,
  deleteStatus: 200,
  statusStyle: 'lower',
  saysRunningAtOnce: false,
  ipDelayMs: 0,
  missingIp: 'empty',
  portForwards: 'remapped',
  isSshKeyInstalled: false,
  hasNoPublicIps: false,
  stopKeepsGpu: true,
  isStartRefused: false,
  staleHostShare: 0,
  drought: [],
  listLagMs: 0,
  rateLimits: 'off',
  hasRateLimitHeaders: true,
  priceFactor: 1,
  hostLossStatus: 'error',
  bootMs: null,
  creditUsd: 10_000,
};
