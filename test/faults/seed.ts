/**
 * What makes a fault repeatable: one seed for all that is random. It is printed; FAULTS_SEED replays it, and FAULTS=long makes
 * every scenario as large as it was meant to be.
 */
export const isLong = process.env.FAULTS === "long";

export interface Chance {
  /** A whole number from `low` to `high`. */
  between(low: number, high: number): number;
  oneOf<T>(choices: readonly T[]): T;
}

export function throwDice(scenario: string): Chance {
  const seed = Number(process.env.FAULTS_SEED ?? Math.floor(Math.random() * 2 ** 32));
  process.stdout.write(`${scenario}: FAULTS_SEED=${seed}\n`);
  // mulberry32
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    between: (low, high) => low + Math.floor(next() * (high - low + 1)),
    oneOf: (choices) => choices[Math.floor(next() * choices.length)]!,
  };
}
