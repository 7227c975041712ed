/**
 * A member's time as they wrote it. Evaluators declare it in their schemas and read it here. Without a zone it is the
 * member's own wall clock; its day is read off as written, also where a zone is written. It must never depend on the zone
 * of this process.
 *
 * A log holds thousands of times, and a Temporal object costs about ten times what is needed here, so a time is three
 * numbers; the tests hold them against Temporal.
 */
import { Type } from "typebox";
import type { Temporal } from "temporal-polyfill";

const pattern =
  /^(\d{4}-\d{2}-(\d{2}))(?:[ T](\d{2}):(\d{2})(?::(\d{2})(\.\d{1,9})?)?(?:Z|([+-])(\d{2}):?(\d{2}))?)?$/;

/** The form alone: whether such a day exists is for `parseMemberTime` to say. */
export const MemberTime = Type.String({
  pattern: pattern.source,
  maxLength: 35,
  description:
    "a date, or a date and a time, such as 2021-09-15 15:30:00 or 2021-09-15T15:30:00+02:00; without a zone it is the member's own clock",
});

export interface ParsedMemberTime {
  /** The calendar day as written, in days since 1970-01-01. */
  day: number;
  /** What the clock on the wall said, in milliseconds since 1970-01-01 00:00 on the same clock. Finer digits are cut off. */
  wall: number;
  /** The moment itself, in milliseconds since 1970-01-01 00:00 UTC, where a zone is written. */
  instant: number | undefined;
}

/** No clock in the world is further ahead of UTC. */
const hoursAheadAtMost = 14;

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;

/** Undefined when it is not a real date and time, as 2021-02-30 and 24:00:00 are not. A date alone is its midnight. */
export function parseMemberTime(text: string): ParsedMemberTime | undefined {
  const [
    ,
    date,
    dayOfMonth = "",
    hours = 0,
    minutes = 0,
    seconds = 0,
    fraction = 0,
    sign,
    offsetHours = 0,
    offsetMinutes = 0,
  ] = pattern.exec(text) ?? [];
  if (date === undefined) return undefined;
  const midnight = Date.parse(`${date}T00:00:00Z`);
  if (Number.isNaN(midnight)) return undefined;
  // The engine turns February 30 into March 2.
  if (+dayOfMonth > 28 && new Date(midnight).getUTCDate() !== +dayOfMonth) return undefined;
  if (+hours > 23 || +minutes > 59 || +seconds > 59) return undefined;
  if (+offsetHours > hoursAheadAtMost || +offsetMinutes > 59) return undefined;

  const wall =
    midnight + +hours * hour + +minutes * minute + +seconds * 1000 + Math.floor(+fraction * 1000);
  const offset = (sign === "-" ? -1 : 1) * (+offsetHours * hour + +offsetMinutes * minute);
  const hasZone = sign !== undefined || text.endsWith("Z");
  return { day: midnight / day, wall, instant: hasZone ? wall - offset : undefined };
}

/** As moments where both have a zone; otherwise what the two clocks said, which is all there is to compare. */
export function isAfter(a: ParsedMemberTime, b: ParsedMemberTime): boolean {
  return a.instant !== undefined && b.instant !== undefined
    ? a.instant > b.instant
    : a.wall > b.wall;
}

/** Without a zone: only when no clock in the world shows it yet. */
export function isInTheFuture(time: ParsedMemberTime, now: Temporal.Instant): boolean {
  return time.instant === undefined
    ? time.wall > now.epochMilliseconds + hoursAheadAtMost * hour
    : time.instant > now.epochMilliseconds;
}
