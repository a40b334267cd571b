/**
 * Round robin: one machine at a time, each with its full boot deadline; the next at another provider than the last. The providers
 * take turns: whose last turn is longest ago goes first, before price, so that a provider in trouble that no listing shows costs
 * one deadline and not all of them. Where no other provider fits, the same one goes on.
 */
import type { ProviderName } from '../provider.ts';
import { countRoom, type WavePlanner } from './wave.ts';

export const planRoundRobinWave: WavePlanner = ({ spec, earlier, places, maxWidth }) => {
  const inOrder = [...earlier].sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1));
  const lastTurn = new Map<ProviderName, number>(inOrder.map((attempt, index) => [attempt.provider, index]));
  return {
    width: Math.min(1, maxWidth, countRoom(places, null)),
    ceilingMicroUsdPerHour: spec.requirements.maxPriceMicroUsdPerHour,
    turnOf: (provider) => lastTurn.get(provider) ?? -1,
  };
};
