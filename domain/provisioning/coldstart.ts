/** Coldstart: one machine at a time, each with its full boot deadline; the next on another machine. Slow, and costs nothing extra. */
import type { WavePlanner } from './wave.ts';

export const planColdstartWave: WavePlanner = ({ spec, places, maxWidth }) => ({
  width: Math.min(1, maxWidth, places.length),
  ceilingMicroUsdPerHour: spec.requirements.maxPriceMicroUsdPerHour,
});
