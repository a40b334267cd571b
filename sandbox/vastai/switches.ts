/**
 * The vendor's behaviours that are inferred, reported differently by different people, or worth making worse.
 * A switch is a standing property of the simulated vendor; something that happens to single calls is a fault.
 * Kinds in the comments: [V] documented or observed, [I] inferred (providers/vastai.md).
 */
import { z } from 'zod';

export const vastaiSwitchesSchema = z.strictObject({
  /** `documented`: the vendor's spacing per endpoint; `off`: none. */
  rateLimits: z.enum(['off', 'documented']),
  /** Both forms of the 429 were seen [V]; `both` alternates. */
  rateLimitBody: z.enum(['json', 'text', 'both']),
  /** What a create of an offer that is gone answers: 410 is documented, 404 and 400 were seen [V]. */
  raceStatus: z.union([z.literal(410), z.literal(404), z.literal(400)]),
  /** A bid below the floor creates a stopped machine and says success:false [V]; with which status is [I]. */
  bidTooLowStatus: z.union([z.literal(200), z.literal(400)]),
  /** With cancel_unavail:false a taken offer may leave a machine in scheduling instead of a refusal [I]. */
  unavailableWithoutCancel: z.enum(['refuse', 'scheduling']),
  /** An image without a tag was answered with server_error by the live service [V]; off so that `--image x` works. */
  untaggedImage: z.enum(['accept', 'server_error']),
  /** GET /api/v0/instances/ answers 410 since summer 2026 [V]; some accounts still get the list. */
  listV0: z.union([z.literal(410), z.literal(200)]),
  /** How long new machines miss from the list, and destroyed ones stay in it [I]. */
  listLagMs: z.number().int().min(0),
  /** A bad key: the docs say 401, the live service answered 404 [V]. */
  authFailureStatus: z.union([z.literal(404), z.literal(401)]),
  /** How long a key attached by the API takes to work: 10 to 15 s at the vendor [V]; null follows the time mode. */
  keyDelayMs: z.number().int().min(0).nullable(),
  /** public_ipaddr comes with a space at its end [V]. */
  hasIpSpace: z.boolean(),
  /** Share of the listed offers that somebody else has already taken. */
  staleOfferShare: z.number().min(0).max(1),
  /** GPUs that are out of stock: their offers are not listed and cannot be bought; `*` is everything. */
  drought: z.array(z.string()),
  /** Prices of all offers as a factor of their normal price. Running machines keep theirs. */
  priceFactor: z.number().min(0.01).max(100),
  /** A start after a stop never gets its GPU back (`Scheduling`). */
  isStartStuck: z.boolean(),
  /** A released slot may come back under an id that another machine had before [V: ids are recycled]. */
  areOfferIdsRecycled: z.boolean(),
  /** Search without `limit` answers this many [I]. */
  searchDefaultLimit: z.number().int().min(1),
  /** From purchase to running; null follows the time mode. */
  bootMs: z.tuple([z.number().int().min(0), z.number().int().min(0)]).nullable(),
  /** What the account was given, before charges. */
  creditUsd: z.number(),
});
export type VastaiSwitches = z.infer<typeof vastaiSwitchesSchema>;

export const DEFAULT_VASTAI_SWITCHES: VastaiSwitches = {
  rateLimits: 'off',
  rateLimitBody: 'json',
  raceStatus: 410,
  bidTooLowStatus: 200,
  unavailableWithoutCancel: 'refuse',
  untaggedImage: 'accept',
  listV0: 410,
  listLagMs: 0,
  authFailureStatus: 404,
  keyDelayMs: null,
  hasIpSpace: false,
  staleOfferShare: 0,
  drought: [],
  priceFactor: 1,
  isStartStuck: false,
  areOfferIdsRecycled: true,
  searchDefaultLimit: 64,
  bootMs: null,
  creditUsd: 10_000,
};
