/**
 * The vendor's behaviours that are inferred, reported differently by different people, or worth making worse.
 * A switch is a standing property of the simulated vendor; something that happens to single calls is a fault.
 * Kinds in the comments: [V] documented or observed, [I] inferred (providers/lambda.md).
 */
import { z } from 'zod';

export const lambdaSwitchesSchema = z.strictObject({
  /** `documented`: one request a second in all, and one launch in 12 s [V]; `off`: none. */
  rateLimits: z.enum(['off', 'documented']),
  /** What a terminate answers: the instances, or an empty list although it works [V: both]; `alternate`: in turn. */
  terminateReply: z.enum(['instances', 'empty', 'alternate']),
  /** A terminate while actions.terminate is not available (vm-has-not-launched): refused, without effect, or accepted [I]. */
  terminateEarly: z.enum(['refuse', 'ignore', 'accept']),
  /** How long a terminated instance stays in the list [V: a while, or not at all]. */
  keepTerminatedMs: z.number().int().min(0),
  /** How long new instances miss from the list, and terminated ones stay in it [I]. */
  listLagMs: z.number().int().min(0),
  /** Instances per page, told by `page_token` beside `data` (a newer API than the one documented [I]); null: no pages. */
  pageSize: z.number().int().min(1).nullable(),
  /** Share of the launches for listed capacity that are refused: 3 of 11 were [V]. */
  raceShare: z.number().min(0).max(1),
  /** Instance types without capacity anywhere; `*` is all. */
  drought: z.array(z.string()),
  /** Machines of one type that a region has; null: its own number for each. */
  capacity: z.number().int().min(0).nullable(),
  /** Moves all prices; instances that exist keep theirs. */
  priceFactor: z.number().min(0.01).max(100),
  /** Instances that the account may have; null: no bound. */
  quota: z.number().int().min(0).nullable(),
  /** The account cannot pay: everything is refused with account-inactive [V: the code; I: when]. */
  isAccountInactive: z.boolean(),
  /** From purchase to running; null follows the time mode. */
  bootMs: z.tuple([z.number().int().min(0), z.number().int().min(0)]).nullable(),
});
export type LambdaSwitches = z.infer<typeof lambdaSwitchesSchema>;

export const DEFAULT_LAMBDA_SWITCHES: LambdaSwitches = {
  rateLimits: 'off',
  terminateReply: 'instances',
  terminateEarly: 'accept',
  keepTerminatedMs: 60_000,
  listLagMs: 0,
  pageSize: null,
  raceShare: 0,
  drought: [],
  capacity: null,
  priceFactor: 1,
  quota: null,
  isAccountInactive: false,
  bootMs: null,
};
