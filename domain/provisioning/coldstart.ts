/** Coldstart: one machine at a time, each with its full boot deadline; the next on another machine. Slow, and costs nothing extra. */
import { countRoom, type WavePlanner } from './wave.ts';

export const planColdstartWave: WavePlanner = ({ spec, places, maxWidth }) => ({
  width: Math.min(1, maxWidth, countRoom(places, null)),
  ceilingMicroUsdPerHour: spec.requirements.maxPriceMicroUsdPerHour,
});
