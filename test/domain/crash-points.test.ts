/** The crash matrix leaves no place out: each mark of the product is in it, and each pair of a place and a victim is drawn. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CRASH_POINTS } from '../../domain/crash-points.ts';
import { drawCell, SCENARIOS, SCENARIOS_OF, VICTIMS } from '../support/crash-cells.ts';

const PROJECT = join(import.meta.dirname, '..', '..');
const MARKED = ['automation', 'db', 'providers-dynamic', 'main.ts'];

function textsOf(place: string): string[] {
  if (place.endsWith('.ts')) return [readFileSync(join(PROJECT, place), 'utf8')];
  const names = readdirSync(join(PROJECT, place), { recursive: true }) as string[];
  return names.filter((name) => name.endsWith('.ts')).map((name) => readFileSync(join(PROJECT, place, name), 'utf8'));
}

describe('the crash matrix', () => {
  it('has a scenario for each named place, and passes each scenario', () => {
    expect(Object.keys(SCENARIOS_OF).toSorted()).toEqual(CRASH_POINTS.toSorted());
    const used = new Set(Object.values(SCENARIOS_OF).flat());
    expect([...used].toSorted()).toEqual(SCENARIOS.toSorted());
  });

  it('names only places that the product marks', () => {
    const marked = new Set(
      MARKED.flatMap(textsOf).flatMap((text) =>
        [...text.matchAll(/[cC]rashPoint\??\.?\('(\w+)'\)/g)].map(([, name]) => name),
      ),
    );
    expect(marked).toEqual(new Set(CRASH_POINTS));
  });

  it('draws each pair of a place and a victim once in as many seeds as there are pairs', () => {
    const pairs = CRASH_POINTS.length * VICTIMS.length;
    const drawn = new Set(
      Array.from({ length: pairs }, (_, seed) => drawCell(seed)).map(
        ({ kills: [kill] }) => `${kill?.point} ${kill?.victim}`,
      ),
    );
    expect(drawn.size).toBe(pairs);
  });

  it('draws each scenario of a place within as many rounds as it has scenarios', () => {
    const pairs = CRASH_POINTS.length * VICTIMS.length;
    for (const point of CRASH_POINTS) {
      const scenarios: readonly string[] = SCENARIOS_OF[point];
      const rounds = scenarios.map((_, round) => drawCell(round * pairs + CRASH_POINTS.indexOf(point)));
      expect(rounds.every(({ kills: [kill] }) => kill?.point === point)).toBe(true);
      expect(rounds.map(({ scenario }) => scenario).toSorted()).toEqual(scenarios.toSorted());
    }
  });
});
