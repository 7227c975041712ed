/**
 * Reads what an event is about, for clients that wait for it: a few at a time in the whole process, so that a thousand clients
 * with an event each leave the pool to requests; and again and again while the database is away, so that no event is lost to
 * a restart.
 */
import { setTimeout as sleep } from "node:timers/promises";
import pLimit from "p-limit";
import type { Feed } from "../../live/feed.ts";
import { isPassing } from "../problems.ts";

const AT_ONCE = 6;

/** Undefined when the feed has ended meanwhile. Throws what `read` throws, unless that will pass. */
export type PatientReader = <Result>(
  feed: Feed,
  read: () => Promise<Result>,
) => Promise<Result | undefined>;

export function createPatientReader(): PatientReader {
  const limit = pLimit(AT_ONCE);
  return async (feed, read) => {
    while (!feed.hasEnded) {
      try {
        return await limit(read);
      } catch (error) {
        if (!isPassing(error)) throw error;
      }
      // Not all at the same moment.
      await sleep(250 + Math.random() * 500);
    }
    return undefined;
  };
}
