/**
 * Answers in memory: what this process answered a member before, kept until something of that member changes. Called by the
 * API in front of everything else; told of changes by the live subscriber and by the writes that pass through this process.
 * It never keeps what a change overtook: whatever was being asked when a member changed is answered, and forgotten.
 */
import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";
import { countForgotten, setAnswersKept } from "../metrics/registry.ts";

export interface Answer {
  /** As sent, so that a hit serializes nothing. */
  body: Buffer;
  etag: string;
  contentType: string;
}

/** A question that is being asked. Those who ask the same meanwhile wait for its answer. */
export interface Flight {
  /** The answer, when it may be given to others; undefined: each must ask for themselves. */
  readonly answer: Promise<Answer | undefined>;
  /** Ends it. The answer, if there is one, is kept unless its member changed meanwhile; says whether it was. */
  end(answer: Answer | undefined): boolean;
}

export interface AnswersOptions {
  /** What all answers and their keys may take, in bytes. */
  maxBytes: number;
  /** How long an answer is good for, in milliseconds. */
  keptForMs: number;
  /** Whether changes are being heard of; if not, nothing is answered and nothing kept. */
  isHearing: () => boolean;
}

/** No member crowds out the others by asking ever new questions. */
const answersOfOneMember = 100;
const overheadOfOne = 500;
/** Who is about to be judged is asked live for so long at the most: a batch may have failed. */
const unsettledForMs = 5000;

/** What a member is called in the notification of a change (db: app.notify_members). */
export function memberHash(userId: string): string {
  return createHash("sha256").update(userId).digest("base64").slice(0, 4);
}

interface Kept extends Answer {
  member: string;
}

interface OpenFlight extends Flight {
  key: string;
  /** No change came since it began. */
  isCurrent: boolean;
}

export class Answers {
  readonly #isHearing: () => boolean;
  readonly #kept: LRUCache<string, Kept>;
  /** By the member's hash: the keys of what is kept, and what is being asked. */
  readonly #keysOf = new Map<string, Set<string>>();
  readonly #flightsOf = new Map<string, Set<OpenFlight>>();
  readonly #flightAt = new Map<string, OpenFlight>();
  /** How many writes of a member are not over; nothing is kept of them meanwhile. */
  readonly #writing = new Map<string, number>();
  /** Until when nothing is kept of a member (by performance.now()), the first to end first. */
  readonly #unsettled = new Map<string, number>();

  constructor({ maxBytes, keptForMs, isHearing }: AnswersOptions) {
    this.#isHearing = isHearing;
    this.#kept = new LRUCache({
      maxSize: maxBytes,
      maxEntrySize: Math.ceil(maxBytes / 10),
      ttl: keptForMs,
      sizeCalculation: ({ body }, key) => body.length + key.length * 2 + overheadOfOne,
      dispose: ({ member }, key) => this.#forgetKey(member, key),
    });
  }

  /** `key` says all that the answer depends on: who asks, as what, and what for. */
  find(key: string): Answer | undefined {
    return this.#isHearing() ? this.#kept.get(key) : undefined;
  }

  /** The same question, being asked at this moment, if nothing changed since it began. */
  join(key: string): Flight | undefined {
    return this.#isHearing() ? this.#flightAt.get(key) : undefined;
  }

  /** Call it before the question is asked, and `end` in any case. `member` is a hash. */
  begin(key: string, member: string): Flight {
    const { promise, resolve } = Promise.withResolvers<Answer | undefined>();
    const flight: OpenFlight = {
      key,
      isCurrent: this.#isHearing() && !this.#isUnsettled(member),
      answer: promise,
      end: (answer) => {
        const mayKeep = flight.isCurrent && answer !== undefined && this.#isHearing();
        this.#land(flight, member);
        resolve(answer);
        return mayKeep && this.#keep(key, { ...answer, member });
      },
    };
    if (flight.isCurrent) {
      this.#flightAt.set(key, flight);
      const flights = this.#flightsOf.get(member);
      if (flights) flights.add(flight);
      else this.#flightsOf.set(member, new Set([flight]));
    }
    return flight;
  }

  /** What is kept of these members (hashes) is no longer true, nor what is being asked for them. */
  forget(members: readonly string[] | "all"): void {
    if (members === "all") this.#forgetAll();
    else for (const member of members) this.#forgetMember(member);
    countForgotten(members === "all" ? "all" : "members");
    this.#report();
  }

  /** This member (a hash) writes: nothing is kept of them until what is returned is called, once, when that is over. */
  beginWrite(member: string): () => void {
    this.#writing.set(member, (this.#writing.get(member) ?? 0) + 1);
    this.forget([member]);
    return () => {
      const left = (this.#writing.get(member) ?? 1) - 1;
      if (left > 0) this.#writing.set(member, left);
      else this.#writing.delete(member);
      this.forget([member]);
    };
  }

  /** These members (hashes) are about to be judged: until `settle`, nothing is kept of them. */
  unsettle(members: readonly string[]): void {
    const now = performance.now();
    for (const [member, until] of this.#unsettled) {
      if (until > now) break;
      this.#unsettled.delete(member);
    }
    for (const member of members) {
      this.#unsettled.delete(member);
      this.#unsettled.set(member, now + unsettledForMs);
    }
    this.forget(members);
  }

  /** What these members see has changed, and will be the same for a while. */
  settle(members: readonly string[] | "all"): void {
    if (members !== "all") for (const member of members) this.#unsettled.delete(member);
    this.forget(members);
  }

  #isUnsettled(member: string): boolean {
    return this.#writing.has(member) || (this.#unsettled.get(member) ?? 0) > performance.now();
  }

  #forgetMember(member: string): void {
    // Each deletion takes its own out of the set that is gone through, which a set allows.
    for (const key of this.#keysOf.get(member) ?? []) this.#kept.delete(key);
    for (const flight of this.#flightsOf.get(member) ?? []) this.#land(flight, member);
  }

  #forgetAll(): void {
    this.#kept.clear();
    for (const [member, flights] of this.#flightsOf) {
      for (const flight of flights) this.#land(flight, member);
    }
  }

  /** From here on nobody joins it, and its answer is not kept. */
  #land(flight: OpenFlight, member: string): void {
    flight.isCurrent = false;
    if (this.#flightAt.get(flight.key) === flight) this.#flightAt.delete(flight.key);
    const flights = this.#flightsOf.get(member);
    flights?.delete(flight);
    if (flights?.size === 0) this.#flightsOf.delete(member);
  }

  /** False when it is too big to be kept. */
  #keep(key: string, kept: Kept): boolean {
    if (!this.#kept.set(key, kept).has(key)) return false;
    const keys = this.#keysOf.get(kept.member) ?? new Set();
    this.#keysOf.set(kept.member, keys.add(key));
    const [oldest] = keys;
    if (keys.size > answersOfOneMember && oldest !== undefined) this.#kept.delete(oldest);
    this.#report();
    return true;
  }

  #forgetKey(member: string, key: string): void {
    const keys = this.#keysOf.get(member);
    keys?.delete(key);
    if (keys?.size === 0) this.#keysOf.delete(member);
  }

  #report(): void {
    setAnswersKept({ answers: this.#kept.size, bytes: this.#kept.calculatedSize });
  }
}
