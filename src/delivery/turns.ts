/**
 * Whose turn it is to deliver: so many jobs at a time, that the worker's other places are for judging. Listeners that took their
 * time leave one of these turns to those that do not. Shared by the two tasks.
 */
export class Turns {
  readonly #atMost: number;
  #taken = 0;
  readonly #slow = new Set<string>();

  constructor(atMost: number) {
    this.#atMost = atMost;
  }

  /** Whether it is this listener's turn now; then it is to be given back. */
  take(listener: string): boolean {
    if (this.#taken >= (this.#slow.has(listener) ? this.#atMost - 1 : this.#atMost)) return false;
    this.#taken += 1;
    return true;
  }

  giveBack(listener: string, isSlow: boolean): void {
    this.#taken -= 1;
    if (isSlow) this.#slow.add(listener);
    else this.#slow.delete(listener);
  }
}
