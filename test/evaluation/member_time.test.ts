import { describe, expect, test } from "@jest/globals";
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { Temporal } from "temporal-polyfill";
import {
  isAfter,
  isInTheFuture,
  MemberTime,
  parseMemberTime,
} from "../../src/evaluation/member_time.ts";

const parse = (text: string) => {
  const time = parseMemberTime(text);
  if (!time) throw new Error(`${text} should be a member's time`);
  return time;
};
const hasTheForm = new Ajv2020().compile(MemberTime);

describe("parseMemberTime", () => {
  test.each([
    ["2021-09-15 15:30:00", "2021-09-15T15:30:00Z", undefined],
    ["2021-09-15 15:30", "2021-09-15T15:30:00Z", undefined],
    ["2021-09-15", "2021-09-15T00:00:00Z", undefined],
    ["2021-09-15T15:30:00", "2021-09-15T15:30:00Z", undefined],
    ["2021-09-15T15:30:00.123456789", "2021-09-15T15:30:00.123Z", undefined],
    ["2021-09-15T15:30:00Z", "2021-09-15T15:30:00Z", "2021-09-15T15:30:00Z"],
    ["2021-09-15T00:30:00+02:00", "2021-09-15T00:30:00Z", "2021-09-14T22:30:00Z"],
    ["2021-09-15T23:30:00-0330", "2021-09-15T23:30:00Z", "2021-09-16T03:00:00Z"],
    ["2020-02-29 23:59:59", "2020-02-29T23:59:59Z", undefined],
    ["0050-01-01", "0050-01-01T00:00:00Z", undefined],
  ])("reads %s as it is written", (text, wall, instant) => {
    expect(hasTheForm(text)).toBe(true);
    expect(parse(text)).toEqual({
      day: Math.floor(Date.parse(wall) / 86_400_000),
      wall: Date.parse(wall),
      instant: instant && Date.parse(instant),
    });
  });

  test.each([
    "2021-02-30",
    "2021-02-29",
    "1900-02-29",
    "2021-04-31 10:00:00",
    "2021-13-01",
    "2021-00-10",
    "2021-01-00",
    "2021-09-15 24:00:00",
    "2021-09-15 15:60",
    "2021-09-15 15:30:60",
    "2021-09-15T15:30:00+15:00",
    "2021-09-15T15:30:00+02:60",
  ])("knows that %s has the form but is not real", (text) => {
    expect(hasTheForm(text)).toBe(true);
    expect(parseMemberTime(text)).toBeUndefined();
  });

  test.each([
    "",
    "yesterday",
    "15.09.2021",
    "2021-9-15",
    "20210915",
    "2021-09-15 15",
    "2021-09-15Z",
    "2021-09-15  15:30",
    "2021-09-15 15:30:00.",
    "2021-09-15 15:30:00 +02:00",
    "2021-09-15 15:30:00[Europe/Paris]",
    "+002021-09-15",
    "2021-09-15 15:30:00\n",
    " 2021-09-15",
    "２０２１-09-15",
  ])("refuses the form of %j", (text) => {
    expect(hasTheForm(text)).toBe(false);
    expect(parseMemberTime(text)).toBeUndefined();
  });

  test("agrees with Temporal on which times are real, and on when they are", () => {
    const two = (most: number) =>
      fc.integer({ min: 0, max: most }).map((number) => String(number).padStart(2, "0"));
    const year = fc.integer({ min: 0, max: 9999 }).map((number) => String(number).padStart(4, "0"));
    const written = fc.tuple(year, two(13), two(32), two(25), two(61), two(59), two(14), two(60));
    fc.assert(
      fc.property(written, ([y, month, dayOfMonth, h, m, s, offsetHours, offsetMinutes]) => {
        const wall = `${y}-${month}-${dayOfMonth}T${h}:${m}:${s}`;
        const text = `${wall}-${offsetHours}:${offsetMinutes}`;
        expect(parseMemberTime(wall)?.wall).toBe(
          temporal(() =>
            Temporal.PlainDateTime.from(wall, { overflow: "reject" }),
          )?.toZonedDateTime("UTC").epochMilliseconds,
        );
        expect(parseMemberTime(text)?.instant).toBe(
          temporal(() => Temporal.Instant.from(text))?.epochMilliseconds,
        );
      }),
      { numRuns: 2000 },
    );
  });

  test("has an answer to any text, and refuses whatever the schema refuses", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 40 }), (text) => {
        const time = parseMemberTime(text);
        if (!hasTheForm(text)) expect(time).toBeUndefined();
      }),
    );
  });
});

describe("isAfter", () => {
  test("compares moments where both have a zone", () => {
    expect(isAfter(parse("2021-09-15T10:00:00+02:00"), parse("2021-09-15T09:00:00Z"))).toBe(false);
    expect(isAfter(parse("2021-09-15T10:00:00-02:00"), parse("2021-09-15T11:00:00Z"))).toBe(true);
  });

  test("compares what the clocks said where one has no zone", () => {
    expect(isAfter(parse("2021-09-15 10:00"), parse("2021-09-15T09:59:00-10:00"))).toBe(true);
    expect(isAfter(parse("2021-09-15 10:00"), parse("2021-09-15 10:00:00"))).toBe(false);
  });
});

describe("isInTheFuture", () => {
  const now = Temporal.Instant.from("2021-09-15T10:00:00Z");

  test.each([
    ["2021-09-16 00:00:00", false],
    ["2021-09-16", false],
    ["2021-09-16 00:00:00.001", true],
    ["2021-09-17", true],
    ["2021-09-15T10:00:00Z", false],
    ["2021-09-15T10:00:01Z", true],
    ["2021-09-16T00:00:00+14:00", false],
    ["2021-09-16T00:00:01+14:00", true],
    ["2021-09-15T00:00:01-10:00", true],
  ])("of %s, at 10:00 UTC on the 15th, is %s", (text, expected) => {
    expect(isInTheFuture(parse(text), now)).toBe(expected);
  });
});

/** Temporal throws where there is no such time. */
function temporal<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
