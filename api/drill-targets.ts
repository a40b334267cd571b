/** What a drill is judged by: as asked, and the usual for what was not said. */
import { parseDuration } from '../domain/duration.ts';
import {
  DEFAULT_DETECTION_MS,
  DEFAULT_STOPPED_RTO_MS,
  DEFAULT_WARM_RTO_MS,
  type DrillTargets,
} from '../domain/drill.ts';
import { parseUsd } from '../domain/money.ts';
import type { StandbyState } from '../domain/standby.ts';
import type { DrillTargetsInput } from './contract/standbys.ts';

export function targetsOf(
  asked: DrillTargetsInput | undefined,
  standby: { state: StandbyState; rpoMs: number },
): DrillTargets {
  const { detection, rto, rpo, costUsd } = asked ?? {};
  const ms = (text: string | null | undefined, usual: number) =>
    text === undefined ? usual : text === null ? null : (parseDuration(text) as number);
  return {
    detectionMs: ms(detection, DEFAULT_DETECTION_MS),
    rtoMs: ms(rto, standby.state === 'warm' ? DEFAULT_WARM_RTO_MS : DEFAULT_STOPPED_RTO_MS),
    rpoMs: ms(rpo, standby.rpoMs),
    costMicroUsd: costUsd === undefined || costUsd === null ? null : Number(parseUsd(costUsd)),
  };
}
