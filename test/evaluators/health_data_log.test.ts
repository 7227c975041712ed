import { beforeAll, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { Temporal } from "temporal-polyfill";
import { checkCriteria, checkData, judge } from "../../src/evaluation/judge.ts";
import { loadEvaluators } from "../../src/evaluation/registry.ts";
import type { EvaluatorRegistry } from "../../src/evaluation/registry.ts";

interface Entry {
  date: string;
  data: { type: string; value: string }[];
}
interface Criteria {
  required_days: number;
  within_days: number;
  types?: string[];
}

const now = Temporal.Instant.from("2021-10-01T12:00:00Z");
const twoDaysAWeek = { required_days: 2, within_days: 7 };
let registry: EvaluatorRegistry;

beforeAll(async () => {
  registry = await loadEvaluators();
});

function judgeLog(data: unknown, criteria: Criteria = twoDaysAWeek) {
  const open = { is_active: true, starts_at: null, ends_at: null };
  return judge(registry, { evaluator: "health_data_log", criteria, ...open }, { data, now });
}

const entry = (date: string, type = "mood", value = "happy"): Entry => ({
  date,
  data: [{ type, value }],
});
const ignored = (data: unknown, criteria?: Criteria) =>
  judgeLog(data, criteria).explanation[0]?.ignored;

const seed = [
  {
    data: [
      { type: "mood", value: "happy" },
      { type: "symptom", value: "cough" },
    ],
    date: "2021-09-15 17:15:00",
  },
  { data: [{ type: "mood", value: "tired" }], date: "2021-09-14 22:22:00" },
];

describe("A health data log", () => {
  test("is completed by the first programme's example, whose entries are out of order", () => {
    expect(judgeLog(seed)).toEqual({
      status: "completed",
      progress: 1,
      explanation: [
        {
          condition: "days_logged",
          met: true,
          message: "To be logged: 2 different days within 7 days.",
          needed: 2,
          counted: 2,
          ignored: [],
        },
      ],
    });
  });

  test("is in progress as far as its best span got", () => {
    expect(judgeLog([])).toMatchObject({ status: "in_progress", progress: 0 });
    expect(judgeLog(seed, { required_days: 4, within_days: 7 })).toMatchObject({
      status: "in_progress",
      progress: 0.5,
      explanation: [{ met: false, needed: 4, counted: 2 }],
    });
  });

  test("counts different days, not entries", () => {
    expect(judgeLog([entry("2021-09-15 08:00"), entry("2021-09-15 20:00")])).toMatchObject({
      status: "in_progress",
      progress: 0.5,
    });
  });

  test("has a span that holds its last day and not the one after", () => {
    expect(judgeLog([entry("2021-09-01"), entry("2021-09-07")]).status).toBe("completed");
    expect(judgeLog([entry("2021-09-01"), entry("2021-09-08")]).status).toBe("in_progress");
    expect(judgeLog([entry("2020-02-24"), entry("2020-03-01")]).status).toBe("completed");
    expect(judgeLog([entry("2020-02-23"), entry("2020-03-01")]).status).toBe("in_progress");
  });

  test("reads the days off as written, whatever the zone", () => {
    const sameMoment = [entry("2021-09-15T23:30:00-02:00"), entry("2021-09-16T01:30:00Z")];
    expect(judgeLog(sameMoment).status).toBe("completed");
  });

  test("says which entries did not count, and why", () => {
    const log = [
      entry("2021-09-15 10:00"),
      entry("2021-02-30"),
      entry("2021-10-02 02:00:01"),
      entry("2021-09-15 10:00"),
      entry("2021-09-16", "steps"),
      entry("2021-01-01"),
      entry("2021-09-15 24:00:00"),
    ];
    expect(judgeLog(log, { ...twoDaysAWeek, types: ["mood"] })).toMatchObject({
      status: "in_progress",
      progress: 0.5,
      explanation: [
        {
          message: "To be logged: 2 different days with an entry of the type mood within 7 days.",
          ignored: [
            { because: "date_is_not_real", count: 2, entries: [1, 6] },
            { because: "in_the_future", count: 1, entries: [2] },
            { because: "duplicate", count: 1, entries: [3] },
            { because: "of_another_type", count: 1, entries: [4] },
            { because: "outside_the_best_span", count: 1, entries: [5] },
          ],
        },
      ],
    });
  });

  test("counts an entry that is already true in the first zone of the world", () => {
    expect(ignored([entry("2021-10-02 02:00:00")])).toEqual([]);
    expect(ignored([entry("2021-10-02T02:00:00+14:00")])).toEqual([]);
    expect(ignored([entry("2021-10-01T12:00:01Z")])).toMatchObject([{ because: "in_the_future" }]);
  });

  test("takes an entry for a duplicate only when all of it is the same, in any order of properties", () => {
    const turned = { data: [{ value: "happy", type: "mood" }], date: "2021-09-15" };
    expect(ignored([entry("2021-09-15"), turned])).toMatchObject([{ because: "duplicate" }]);
    expect(ignored([entry("2021-09-15"), entry("2021-09-15", "mood", "sad")])).toEqual([]);
    const number = { date: "2021-09-15", data: [{ type: "mood", value: 1 }] };
    expect(ignored([entry("2021-09-15", "mood", "1"), number])).toEqual([]);
  });

  test("names at most the first 20 of the entries it ignored, and counts them all", () => {
    const log = Array.from({ length: 50 }, () => entry("2021-02-30"));
    const [group] = ignored(log) ?? [];
    expect(group?.count).toBe(50);
    expect(group?.entries).toEqual(Array.from({ length: 20 }, (_, position) => position));
  });

  test.each([
    ["no array", {}],
    ["an entry without data", [{ date: "2021-09-15", data: [] }]],
    ["a property that is not known", [{ ...entry("2021-09-15"), note: "x" }]],
    ["a value that is an object", [{ date: "2021-09-15", data: [{ type: "mood", value: {} }] }]],
    ["a type that is too long", [entry("2021-09-15", "x".repeat(65))]],
    ["a value that is too long", [entry("2021-09-15", "mood", "x".repeat(2001))]],
    ["a date without the form of one", [entry("yesterday")]],
    ["more than 5000 entries", Array.from({ length: 5001 }, () => entry("2021-09-15"))],
  ])("is invalid with %s", (_, data) => {
    expect(judgeLog(data)).toMatchObject({
      status: "invalid",
      explanation: [{ condition: "data_fits" }],
    });
  });

  test("is judged quickly with 5,000 entries", () => {
    const log = Array.from({ length: 5000 }, (_, index) =>
      entry(Temporal.PlainDate.from("2007-01-01").add({ days: index }).toString()),
    );
    judgeLog(log);
    const startedAt = performance.now();
    const verdict = judgeLog(log, { required_days: 365, within_days: 365 });
    expect(performance.now() - startedAt).toBeLessThan(250);
    expect(verdict.status).toBe("completed");
  });

  test("has criteria that can be met", () => {
    const check = (criteria: unknown) => checkCriteria(registry, "health_data_log", criteria);
    expect(check({ required_days: 7, within_days: 7, types: ["mood"] })).toEqual([]);
    expect(check({ required_days: 8, within_days: 7 })).toEqual([
      { pointer: "/required_days", message: "must not be more than within_days" },
    ]);
    expect(check({ required_days: 0 }).map(({ pointer }) => pointer)).toEqual([
      "/within_days",
      "/required_days",
    ]);
    expect(check({ ...twoDaysAWeek, types: [] }).map(({ pointer }) => pointer)).toEqual(["/types"]);
  });

  test("is refused before it is recorded where a date is not real", () => {
    expect(
      checkData(registry, "health_data_log", [entry("2021-09-15"), entry("2021-02-30")]),
    ).toEqual([{ pointer: "/1/date", message: "is not a real date and time" }]);
  });
});

describe("For any log", () => {
  // Few days and few values, so that duplicates and crowded spans are common; unreal and future dates among them.
  const anyEntry: fc.Arbitrary<Entry> = fc
    .tuple(
      fc.constantFrom("2021-08", "2021-09", "2021-10", "2020-02"),
      fc.integer({ min: 1, max: 31 }),
      fc.constantFrom("", " 23:59", "T00:30:00+14:00", "T22:00:00Z"),
      fc.constantFrom("mood", "symptom"),
    )
    .map(([month, day, time, type]) =>
      entry(`${month}-${String(day).padStart(2, "0")}${time}`, type),
    );
  const anyLog = fc.array(anyEntry, { maxLength: 40 });
  const anyCriteria: fc.Arbitrary<Criteria> = fc
    .tuple(
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 0, max: 30 }),
      fc.constantFrom<(string[] | undefined)[]>(undefined, ["mood"]),
    )
    .map(([required_days, spare, types]) => ({
      required_days,
      within_days: required_days + spare,
      ...(types && { types }),
    }));

  const withoutPositions = (data: Entry[], criteria: Criteria) => {
    const verdict = judgeLog(data, criteria);
    const groups = verdict.explanation[0]?.ignored?.map(({ because, count }) => [because, count]);
    return { status: verdict.status, progress: verdict.progress, groups };
  };

  test("the verdict does not depend on the order of its entries", () => {
    const shuffled = anyLog.chain((log) =>
      fc.tuple(
        fc.constant(log),
        fc.shuffledSubarray(log, { minLength: log.length, maxLength: log.length }),
      ),
    );
    fc.assert(
      fc.property(shuffled, anyCriteria, ([log, other], criteria) => {
        expect(withoutPositions(other, criteria)).toEqual(withoutPositions(log, criteria));
      }),
    );
  });

  test("another entry never lowers progress", () => {
    fc.assert(
      fc.property(anyLog, anyEntry, anyCriteria, (log, another, criteria) => {
        const before = judgeLog(log, criteria).progress;
        expect(judgeLog([...log, another], criteria).progress).toBeGreaterThanOrEqual(before);
      }),
    );
  });

  test("the best span is the one that a search of all of them finds", () => {
    fc.assert(
      fc.property(anyLog, anyCriteria, (log, criteria) => {
        const best = searchAllSpans(log, criteria);
        const verdict = judgeLog(log, criteria);
        expect(verdict.explanation[0]?.counted).toBe(best);
        expect(verdict.progress).toBe(Math.min(1, best / criteria.required_days));
        expect(verdict.status).toBe(best >= criteria.required_days ? "completed" : "in_progress");
      }),
      { numRuns: 500 },
    );
  });

  /** With Temporal, and a look at every entry from every entry. */
  function searchAllSpans(log: Entry[], { within_days, types }: Criteria): number {
    const days = log.filter((each) => counts(each, types)).map(({ date }) => date.slice(0, 10));
    const counted = days.map((first) => {
      const last = Temporal.PlainDate.from(first)
        .add({ days: within_days - 1 })
        .toString();
      return new Set(days.filter((day) => first <= day && day <= last)).size;
    });
    return Math.max(0, ...counted);
  }

  function counts({ date, data }: Entry, types: string[] | undefined): boolean {
    try {
      Temporal.PlainDate.from(date.slice(0, 10), { overflow: "reject" });
    } catch {
      return false;
    }
    const written = date.length === 10 ? `${date}T00:00` : date.replace(" ", "T");
    const moment = Temporal.Instant.from(/Z|\+/.test(written) ? written : `${written}+14:00`);
    const isOfType = !types || data.some(({ type }) => types.includes(type));
    return isOfType && Temporal.Instant.compare(moment, now) <= 0;
  }
});
