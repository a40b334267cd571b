/**
 * The vendor's behaviours that are inferred, reported differently by different people, or worth making worse.
 * A switch is a standing property of the simulated vendor; something that happens to single calls is a fault.
 * Kinds in the comments: [V] documented or observed, [I] inferred (providers/runpod.md).
 */
import { z } from 'zod';

const milliseconds = z.number().int().min(0);

export const runpodSwitchesSchema = z.strictObject({
  /** `documented`: 60 calls a minute, 3,000 an hour, 50,000 a day for the account, told in headers [V]; `off`: neither. */
  rateLimits: z.enum(['off', 'documented']),
  /** How long new pods miss from the list, and destroyed ones stay in it [I]. */
  listLagMs: milliseconds,
  /** How long a pod that was terminated is still shown, as TERMINATED [I]; null follows the time mode. */
  terminatedForMs: milliseconds.nullable(),
  /** The public port follows RUNNING after so long: it lags [V]. */
  portLagMs: milliseconds,
  /** No pod ever gets a public port: the `ssh.direct` of users stayed null [V]. */
  hasNoPublicPorts: z.boolean(),
  /** A restart and a start give another public port [V]; off keeps it. */
  doPortsChange: z.boolean(),
  /** Images that bring no sshd, as a pattern of their names: the keys of the environment are not let in [V]. */
  imagesWithoutSshd: z.string().nullable(),
  /**
   * A pod that was stopped starts again without its GPUs [V]: `shown` as a count of 0, or `hidden` so that only nvidia-smi tells
   * [I]; `refused` with 400 [V]. `off`: it gets GPUs while there are any, and is refused without.
   */
  zeroGpuRestart: z.enum(['off', 'shown', 'hidden', 'refused']),
  /** Share of GPU type and data center pairs whose stock is said to be there and is not: a purchase is answered 400 [V]. */
  staleOfferShare: z.number().min(0).max(1),
  /** GPUs that are out of stock everywhere, by our names; `*` is everything. */
  drought: z.array(z.string()),
  /** GPUs that the account may not use, by our names: a purchase is answered 403 [V]. */
  forbiddenGpus: z.array(z.string()),
  /** What a purchase without capacity says; there is no machine code [V], the words are [I]. */
  capacityDetail: z.string().min(1),
  /** Prices of all offers as a factor of their normal price. Running pods keep theirs. */
  priceFactor: z.number().min(0.01).max(100),
  /** What the status of a pod becomes whose host is lost [I]. */
  hostLossStatus: z.enum(['RUNNING', 'EXITED', 'ERROR']),
  /** From purchase to running; null follows the time mode. */
  bootMs: z.tuple([milliseconds, milliseconds]).nullable(),
  /** What the account was given, before charges; at 0 purchases are answered 402 and running pods are stopped [V]. */
  creditUsd: z.number(),
  /** What all pods together may cost per hour: $80 by default at the vendor [V]; null: no limit. The answer (402) is [I]. */
  spendLimitUsdPerHour: z.number().min(0).nullable(),
});
export type RunpodSwitches = z.infer<typeof runpodSwitchesSchema>;

export const DEFAULT_RUNPOD_SWITCHES: RunpodSwitches = {
  rateLimits: 'off',
  listLagMs: 0,
  terminatedForMs: 0,
  portLagMs: 0,
  hasNoPublicPorts: false,
  doPortsChange: true,
  imagesWithoutSshd: null,
  zeroGpuRestart: 'off',
  staleOfferShare: 0,
  drought: [],
  forbiddenGpus: [],
  capacityDetail: 'There are no longer any instances available with the requested specifications.',
  priceFactor: 1,
  hostLossStatus: 'EXITED',
  bootMs: null,
  creditUsd: 10_000,
  spendLimitUsdPerHour: null,
};
