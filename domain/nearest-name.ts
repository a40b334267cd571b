/** Nearest names: what a mistyped name may have meant. */

/** Up to `limit` candidates, nearest first: those that contain `text`, then those with the fewest edits to it; case ignored. */
export function nearestNames(text: string, candidates: readonly string[], limit = 5): string[] {
  const wanted = text.toLowerCase();
  return candidates
    .map((candidate) => {
      const known = candidate.toLowerCase();
      return { candidate, isLonger: known.includes(wanted), edits: countEdits(wanted, known) };
    })
    .sort(
      (a, b) => Number(b.isLonger) - Number(a.isLonger) || a.edits - b.edits || (a.candidate < b.candidate ? -1 : 1),
    )
    .slice(0, limit)
    .map(({ candidate }) => candidate);
}

/** Levenshtein's distance. */
function countEdits(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (previous[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(replaced, (previous[j] as number) + 1, (current[j - 1] as number) + 1));
    }
    previous = current;
  }
  return previous[b.length] as number;
}
