import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { beforeAll, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { Temporal } from "temporal-polyfill";
import { Type } from "typebox";
import type { Verdict } from "../../src/evaluation/evaluator.ts";
import { checkData, judge } from "../../src/evaluation/judge.ts";
import { compileEvaluator, loadEvaluators } from "../../src/evaluation/registry.ts";
import type { EvaluatorRegistry } from "../../src/evaluation/registry.ts";

const now = Temporal.Instant.from("2021-10-01T12:00:00Z");
const birth = { birth_date: "2021-09-15 15:30:00", date: "2021-09-15 17:15:00" };
const birthRecord = {
  evaluator: "birth_record",
  criteria: {},
  is_active: true,
  starts_at: null,
  ends_at: null,
};
const healthDataLog = {
  ...birthRecord,
  evaluator: "health_data_log",
  criteria: { required_days: 2, within_days: 7 },
};
let registry: EvaluatorRegistry;

beforeAll(async () => {
  registry = await loadEvaluators();
});

/** A registry whose one evaluator says this of anything. */
function registryThatSays(verdict: unknown): EvaluatorRegistry {
  const evaluator = compileEvaluator({
    name: "birth_record",
    dataSchema: Type.Unknown(),
    criteriaSchema: Type.Object({}),
    evaluate: () => verdict as Verdict,
  });
  return new Map([["birth_record", evaluator]]);
}

describe("Data that does not fit the schema", () => {
  test("is invalid, with the place and without the value", () => {
    const data = { ...birth, date: "secret" };
    const verdict = judge(registry, birthRecord, { data, now });
    expect(verdict).toMatchObject({
      status: "invalid",
      progress: 0,
      explanation: [{ condition: "data_fits", met: false, pointer: "/date" }],
    });
    expect(JSON.stringify(verdict)).not.toContain("secret");
  });

  test("does not have the name of a property that is not known in its explanation", () => {
    const verdict = judge(registry, birthRecord, { data: { ...birth, secret: 1 }, now });
    expect(verdict).toMatchObject({ status: "invalid", explanation: [{ pointer: "" }] });
    expect(JSON.stringify(verdict)).not.toContain("secret");
  });

  test("has one reason and takes no time, however much of it is wrong", () => {
    const data = Array.from({ length: 1_000_000 }, () => 0);
    const startedAt = performance.now();
    const { explanation } = judge(registry, healthDataLog, { data, now });
    expect(performance.now() - startedAt).toBeLessThan(100);
    expect(explanation).toHaveLength(1);
  });
});

describe("An incentive that is not open completes nobody", () => {
  const at = (text: string) => Date.parse(text);

  test.each([
    ["switched off", { is_active: false }, /switched off/],
    ["not started", { starts_at: at("2021-10-01T12:00:00.001Z") }, /not started/],
    ["over", { ends_at: at("2021-10-01T12:00:00Z") }, /over/],
    ["infinitely far away", { starts_at: Infinity }, /not started/],
  ])("when it is %s", (_, change, message) => {
    const verdict = judge(registry, { ...birthRecord, ...change }, { data: birth, now });
    expect(verdict).toMatchObject({ status: "in_progress", progress: 1 });
    expect(verdict.explanation[0]).toMatchObject({ condition: "incentive_open", met: false });
    expect(verdict.explanation[0]?.message).toMatch(message);
    expect(verdict.explanation.slice(1).every(({ met }) => met)).toBe(true);
  });

  test("from its start on, and until just before its end, it is open", () => {
    const dates = {
      starts_at: at("2021-10-01T12:00:00Z"),
      ends_at: at("2021-10-01T12:00:00.001Z"),
    };
    const verdict = judge(registry, { ...birthRecord, ...dates }, { data: birth, now });
    expect(verdict.status).toBe("completed");
  });

  test("says so to who is still in progress, and leaves what is invalid invalid", () => {
    const over = { ends_at: at("2021-01-01") };
    const log = judge(registry, { ...healthDataLog, ...over }, { data: [], now });
    expect(log.explanation.map(({ condition }) => condition)).toEqual([
      "incentive_open",
      "days_logged",
    ]);
    const unreal = { ...birth, birth_date: "2021-02-30" };
    const document = judge(registry, { ...birthRecord, ...over }, { data: unreal, now });
    expect(document.status).toBe("invalid");
  });
});

describe("A verdict that is nonsense is an error", () => {
  const explanation = [{ condition: "secret", met: true, message: "secret" }];

  test.each([
    ["nothing", undefined],
    ["a promise", Promise.resolve({ status: "completed", progress: 1, explanation })],
    ["an unknown status", { status: "won", progress: 1, explanation }],
    ["no number", { status: "in_progress", progress: NaN, explanation }],
    ["too much progress", { status: "in_progress", progress: 1.01, explanation }],
    ["negative progress", { status: "in_progress", progress: -0.5, explanation }],
    ["half completed", { status: "completed", progress: 0.5, explanation }],
    ["invalid but half done", { status: "invalid", progress: 0.5, explanation }],
    ["no explanation", { status: "completed", progress: 1 }],
    ["no reasons", { status: "completed", progress: 1, explanation: ["secret"] }],
  ])("when it is %s", (_, verdict) => {
    let message = "";
    try {
      judge(registryThatSays(verdict), birthRecord, { data: "secret", now });
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).toMatch(/^src\/evaluators\/birth_record\.ts returned /);
    expect(message).not.toContain("secret");
  });

  test("and so are criteria that do not fit, and an evaluator that is not there", () => {
    const impossible = { ...healthDataLog, criteria: { required_days: 8, within_days: 7 } };
    expect(() => judge(registry, impossible, { data: [], now })).toThrow(
      "criteria of health_data_log: /required_days must not be more than within_days",
    );
    const absent = { ...birthRecord, evaluator: "absent" };
    expect(() => judge(registry, absent, { data: {}, now })).toThrow(
      "there is no src/evaluators/absent.ts",
    );
  });
});

describe("checkData", () => {
  const pointers = (evaluator: string, data: unknown) =>
    checkData(registry, evaluator, data).map(({ pointer }) => pointer);

  test("names every place, missing and unknown properties included", () => {
    expect(checkData(registry, "birth_record", { birth_date: "soon", "a/b~c": 1 })).toEqual([
      { pointer: "/date", message: "is missing" },
      { pointer: "/a~1b~0c", message: "is not known" },
      {
        pointer: "/birth_date",
        message: expect.stringMatching(/^must be a date, or a date and a time/),
      },
    ]);
    expect(pointers("health_data_log", [{ date: "2021-09-15", data: [{ type: "mood" }] }])).toEqual(
      ["/0/data/0/value"],
    );
    expect(pointers("birth_record", undefined)).toEqual([""]);
  });

  test("accepts the first programme's examples", () => {
    expect(pointers("birth_record", birth)).toEqual([]);
    expect(pointers("health_data_log", [])).toEqual([]);
  });

  test("names 20 places at the most", () => {
    expect(
      pointers(
        "health_data_log",
        Array.from({ length: 500 }, () => 0),
      ),
    ).toHaveLength(20);
  });

  test("refuses what jsonb cannot store, before anything else", () => {
    const found = checkData(registry, "health_data_log", [
      "fine 😀",
      "half \ud83d",
      { "zero\0": 1, "\udc00": { deeper: "\0" } },
      -Infinity,
    ]);
    expect(found.map(({ pointer }) => pointer)).toEqual([
      "/1",
      "/2/zero\0",
      "/2/\udc00",
      "/3",
      "/2/\udc00/deeper",
    ]);
  });

  test("refuses nesting deeper than 32 levels, at 100,000 levels too", () => {
    const nested = (levels: number): unknown => JSON.parse("[".repeat(levels) + "]".repeat(levels));
    const deep = expect.objectContaining({ message: "is nested deeper than 32 levels" });
    expect(checkData(registry, "health_data_log", nested(32))).not.toContainEqual(deep);
    expect(checkData(registry, "health_data_log", nested(33))).toEqual([deep]);
    expect(checkData(registry, "health_data_log", nested(100_000))).toEqual([deep]);
    expect(judge(registry, healthDataLog, { data: nested(100_000), now }).status).toBe("invalid");
  });
});

describe("For any JSON", () => {
  const anyJson = fc.oneof(
    fc.jsonValue({ stringUnit: "binary" }),
    fc.record({ birth_date: fc.jsonValue(), date: fc.jsonValue() }),
    fc.array(fc.record({ date: fc.string(), data: fc.array(fc.jsonValue()) })),
    fc.constantFrom<unknown>(JSON.parse('{"__proto__": {"date": 1}}'), JSON.parse("[1e999]")),
  );

  test("judging and checking give an answer, twice the same, and leave the data as it was", () => {
    fc.assert(
      fc.property(anyJson, fc.constantFrom(birthRecord, healthDataLog), (data, incentive) => {
        const before = JSON.stringify(data);
        const verdict = judge(registry, incentive, { data, now });
        expect(judge(registry, incentive, { data, now })).toEqual(verdict);
        expect(Array.isArray(checkData(registry, incentive.evaluator, data))).toBe(true);
        expect(JSON.stringify(data)).toBe(before);
      }),
      { numRuns: 500 },
    );
  });
});

test("The zone and the daylight saving time of the machine do not matter", async () => {
  const spring = ["2021-03-13 23:59", "2021-03-14 02:30", "2021-03-28 01:30", "2021-11-07 01:30"];
  const data = spring.map((date) => ({ date, data: [{ type: "mood", value: "happy" }] }));
  const source = new URL("../../src/evaluation/", import.meta.url).href;
  const script = `
    import { judge } from "${source}judge.ts";
    import { loadEvaluators } from "${source}registry.ts";
    import { Temporal } from "temporal-polyfill";
    const incentive = ${JSON.stringify({ ...healthDataLog, criteria: { required_days: 3, within_days: 16 } })};
    const now = Temporal.Instant.from("2021-11-06T11:30:00Z");
    console.log(JSON.stringify(judge(await loadEvaluators(), incentive, { data: ${JSON.stringify(data)}, now })));`;
  const zones = ["UTC", "America/New_York", "Europe/London", "Pacific/Kiritimati"];
  const verdicts = await Promise.all(
    zones.map(async (TZ) => {
      const args = ["--input-type=module", "--eval", script];
      const env = { ...process.env, TZ };
      return (await promisify(execFile)(process.execPath, args, { env })).stdout;
    }),
  );
  expect(new Set(verdicts).size).toBe(1);
  expect(JSON.parse(verdicts[0] ?? "")).toMatchObject({ status: "completed" });
});
