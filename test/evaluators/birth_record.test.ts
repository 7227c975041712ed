import { beforeAll, describe, expect, test } from "@jest/globals";
import { Temporal } from "temporal-polyfill";
import { checkCriteria, checkData, judge } from "../../src/evaluation/judge.ts";
import { loadEvaluators } from "../../src/evaluation/registry.ts";
import type { EvaluatorRegistry } from "../../src/evaluation/registry.ts";

const now = Temporal.Instant.from("2021-10-01T12:00:00Z");
let registry: EvaluatorRegistry;

beforeAll(async () => {
  registry = await loadEvaluators();
});

function judgeBirth(birth_date: string, date: string, criteria: object = {}) {
  const open = { is_active: true, starts_at: null, ends_at: null };
  const incentive = { evaluator: "birth_record", criteria, ...open };
  const { status, progress, explanation } = judge(registry, incentive, {
    data: { birth_date, date },
    now,
  });
  const unmet = explanation.filter(({ met }) => !met).map(({ condition }) => condition);
  return { status, progress, unmet, explanation };
}

describe("A birth record", () => {
  test("is completed by the first programme's example, with a reason for each condition", () => {
    const verdict = judgeBirth("2021-09-15 15:30:00", "2021-09-15 17:15:00", {
      report_within_days: 30,
    });
    expect(verdict).toMatchObject({ status: "completed", progress: 1, unmet: [] });
    expect(verdict.explanation.map(({ condition }) => condition)).toEqual([
      "birth_date_is_real",
      "report_date_is_real",
      "birth_is_not_after_report",
      "report_is_not_in_the_future",
      "reported_in_time",
    ]);
    expect(verdict.explanation.at(-1)).toMatchObject({ needed: 30, counted: 0 });
  });

  test.each([
    ["birth and report at the same moment", "2021-09-15 15:30", "2021-09-15 15:30:00"],
    ["a leap day", "2020-02-29", "2020-03-01"],
    ["dates with zones", "2021-09-15T15:30:00Z", "2021-09-15T10:00:00-07:00"],
    ["a report that is now in the first zone of the world", "2021-10-01", "2021-10-02 02:00:00"],
  ])("is completed by %s", (_, birth, report) => {
    expect(judgeBirth(birth, report)).toMatchObject({ status: "completed", progress: 1 });
  });

  test.each([
    [
      "a birth after its report",
      "2021-09-15 17:16",
      "2021-09-15 17:15:00",
      "birth_is_not_after_report",
    ],
    [
      "a report later than now in every zone",
      "2021-10-01",
      "2021-10-02 02:00:01",
      "report_is_not_in_the_future",
    ],
    ["a birth date that is not real", "2021-02-30", "2021-03-01", "birth_date_is_real"],
    ["a report date that is not real", "2021-09-15", "2021-09-15 24:00:00", "report_date_is_real"],
  ])("is made invalid by %s", (_, birth, report, condition) => {
    expect(judgeBirth(birth, report)).toMatchObject({
      status: "invalid",
      progress: 0,
      unmet: [condition],
    });
  });

  test("counts calendar days to the report as they are written, not hours", () => {
    const within = (days: number, birth: string, report: string) =>
      judgeBirth(birth, report, { report_within_days: days }).status;
    expect(within(1, "2021-09-14 00:00", "2021-09-15 23:59:59")).toBe("completed");
    expect(within(0, "2021-09-14 23:59", "2021-09-15 00:00")).toBe("invalid");
    expect(within(1, "2020-02-28", "2020-02-29")).toBe("completed");
    expect(within(1, "2020-02-28", "2020-03-01")).toBe("invalid");
    expect(within(0, "2021-09-15T23:00:00-05:00", "2021-09-16T05:00:00Z")).toBe("invalid");
    expect(within(0, "2021-09-16T00:30:00+09:00", "2021-09-15T20:00:00Z")).toBe("completed");
  });

  test("that was reported too late says how late, and where", () => {
    const { unmet, explanation } = judgeBirth("2021-09-01", "2021-09-15", {
      report_within_days: 7,
    });
    expect(unmet).toEqual(["reported_in_time"]);
    expect(explanation.at(-1)).toMatchObject({ needed: 7, counted: 14, pointer: "/date" });
  });

  test("is refused before it is recorded when its dates are not real", () => {
    const check = (data: unknown) => checkData(registry, "birth_record", data);
    expect(check({ birth_date: "2021-09-15", date: "2021-09-15" })).toEqual([]);
    expect(check({ birth_date: "2021-02-30", date: "2021-09-15 25:00" })).toEqual([
      { pointer: "/birth_date", message: "is not a real date and time" },
      { pointer: "/date", message: "is not a real date and time" },
    ]);
  });

  test("has criteria of whole days only", () => {
    const pointers = (criteria: unknown) =>
      checkCriteria(registry, "birth_record", criteria).map(({ pointer }) => pointer);
    expect(pointers({})).toEqual([]);
    expect(pointers({ report_within_days: 0 })).toEqual([]);
    expect(pointers({ report_within_days: -1 })).toEqual(["/report_within_days"]);
    expect(pointers({ report_within_days: 1.5 })).toEqual(["/report_within_days"]);
    expect(pointers({ within: 3 })).toEqual(["/within"]);
    expect(pointers(null)).toEqual([""]);
  });
});
