/**
 * Whether this process is working off a backlog of due rows: then listeners are told in pages a second apart, because both would
 * work on the same processors and what members won comes first. Shared by the two tasks.
 */
import { setTimeout as sleep } from "node:timers/promises";

export class Backlog {
  readonly #underWay = new Set<Promise<unknown>>();

  async during<T>(work: Promise<T>): Promise<T> {
    this.#underWay.add(work);
    try {
      return await work;
    } finally {
      this.#underWay.delete(work);
    }
  }

  /** Resolves when there is none, and after so many milliseconds in any case. */
  async isOver(atMostMs: number): Promise<void> {
    if (this.#underWay.size === 0) return;
    const enough = new AbortController();
    await Promise.race([
      Promise.allSettled(this.#underWay),
      sleep(atMostMs, undefined, { signal: enough.signal }),
    ]);
    enough.abort();
  }
}
