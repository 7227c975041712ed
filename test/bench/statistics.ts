/** The few statistics a benchmark needs, and how a comparison becomes a row of its report. Called by the measures. */

/** `atLeast` or `atMost` is the bar; `reach` is what we would like. */
export type Bar = { atLeast: number; reach?: number } | { atMost: number; reach?: number };

export interface Row {
  measure: string;
  /** What it was measured against. */
  beside: string;
  median: number;
  min: number;
  max: number;
  bar: string;
  holds: boolean;
}

/** Throws when there is nothing to take the middle of. */
export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const low = sorted[Math.ceil(middle) - 1];
  const high = sorted[Math.floor(middle)];
  if (low === undefined || high === undefined) throw new Error("no value was measured");
  return (low + high) / 2;
}

/** The smallest value that `share` (0 to 1) of all values do not exceed. */
export function percentile(values: number[], share: number): number {
  const value = values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(values.length * share) - 1)];
  if (value === undefined) throw new Error("no value was measured");
  return value;
}

/** One value a round: the ratio of a pair, or a count. What is not a number does not hold. */
export function toRow(measure: string, beside: string, values: number[], bar: Bar): Row {
  const middle = median(values);
  const isAtLeast = "atLeast" in bar;
  const reach = bar.reach === undefined ? "" : ` (reach ${bar.reach})`;
  return {
    measure,
    beside,
    median: middle,
    min: Math.min(...values),
    max: Math.max(...values),
    bar: isAtLeast ? `>= ${bar.atLeast}${reach}` : `<= ${bar.atMost}${reach}`,
    holds: isAtLeast ? middle >= bar.atLeast : middle <= bar.atMost,
  };
}
