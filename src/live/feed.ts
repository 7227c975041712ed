/**
 * One client's events, in order, as an iterable that waits for the next. Made and filled by Completions. What waits in it is
 * ids only, and not without end: a client that does not keep up is cut off rather than served with gaps.
 */

export interface Completion {
  /** The event's id. */
  id: string;
  userIncentiveId: string;
  occurredAt: Date;
  /** To go on after this event, by another connection. */
  cursor: string;
}

const AT_MOST = 1000;

export class Feed implements AsyncIterableIterator<Completion, undefined> {
  readonly userId: string;
  readonly #onEnd: (feed: Feed) => void;
  readonly #waiting: Completion[] = [];
  #wake: (() => void) | undefined;
  #hasEnded = false;
  #isTooSlow = false;

  constructor(userId: string, onEnd: (feed: Feed) => void) {
    this.userId = userId;
    this.#onEnd = onEnd;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** It was ended because too much waited. */
  get isTooSlow(): boolean {
    return this.#isTooSlow;
  }

  push(completion: Completion): void {
    if (this.#hasEnded) return;
    this.#waiting.push(completion);
    if (this.#waiting.length > AT_MOST) {
      this.#isTooSlow = true;
      this.end();
    }
    this.#wake?.();
  }

  /** Whoever waits for the next is told that there is none. Safe to call twice. */
  end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#waiting.length = 0;
    this.#onEnd(this);
    this.#wake?.();
  }

  async next(): Promise<IteratorResult<Completion, undefined>> {
    while (!this.#hasEnded) {
      const value = this.#waiting.shift();
      if (value) return { value, done: false };
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return { value: undefined, done: true };
  }

  async return(): Promise<IteratorResult<Completion, undefined>> {
    this.end();
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
