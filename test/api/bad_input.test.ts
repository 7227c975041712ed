/** What a client may get wrong, and that each gets a clear answer which repeats nothing of what was sent. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { startTestProcess } from "../test_process.ts";
import type { TestProcess } from "../test_process.ts";

let app: TestProcess;
beforeAll(async () => {
  app = await startTestProcess();
});
afterAll(() => app.drop());

const entry = { date: "2021-09-15 17:15:00", data: [{ type: "mood", value: "happy" }] };
const deep = '{"a":'.repeat(1000) + "1" + "}".repeat(1000);

describe("recording is refused with 422 and a pointer:", () => {
  test.each<[string, unknown, string]>([
    ["an unknown incentive", { incentive: "marathon", data: {} }, "/incentive"],
    ["an incentive that is not a string", { incentive: { a: 1 }, data: {} }, "/incentive"],
    ["no incentive", { data: {} }, "/incentive"],
    ["no data", { incentive: "birth_record" }, "/data"],
    ["something else beside them", { incentive: "birth_record", data: {}, "x/y": 1 }, "/x~1y"],
    ["a body that is an array", [1], ""],
    ["data of the wrong type", { incentive: "birth_record", data: 7 }, "/data"],
    [
      "a missing date",
      { incentive: "birth_record", data: { birth_date: "2021-09-15" } },
      "/data/date",
    ],
    [
      "an unreal date",
      { incentive: "birth_record", data: { birth_date: "2021-02-30", date: "2021-03-01" } },
      "/data/birth_date",
    ],
    [
      "an unknown property",
      {
        incentive: "birth_record",
        data: { birth_date: "2021-01-30", date: "2021-03-01", weight: 3 },
      },
      "/data/weight",
    ],
    ["no entries", { incentive: "health_data_log", data: [] }, "/data"],
    [
      "a wrong entry among good ones",
      { incentive: "health_data_log", data: [entry, { ...entry, date: "today" }] },
      "/data/1/date",
    ],
    [
      "one wrong entry by itself",
      { incentive: "health_data_log", data: { ...entry, date: 5 } },
      "/data/date",
    ],
    [
      "an entry without data",
      { incentive: "health_data_log", data: [{ ...entry, data: [] }] },
      "/data/0/data",
    ],
    [
      "a nul character",
      { incentive: "health_data_log", data: [{ ...entry, data: [{ type: "mood", value: "\0" }] }] },
      "/data/0/data/0/value",
    ],
    [
      "a lone surrogate",
      '{"incentive": "health_data_log", "data": {"date": "2021-09-15", "data": [{"type": "mood", "value": "\\ud800"}]}}',
      "/data/data/0/value",
    ],
    [
      "a number out of range",
      '{"incentive": "health_data_log", "data": {"date": "2021-09-15", "data": [{"type": "mood", "value": 1e999}]}}',
      "/data/data/0/value",
    ],
    [
      "a thousand levels",
      `{"incentive": "birth_record", "data": ${deep}}`,
      "/data" + "/a".repeat(32),
    ],
    [
      "__proto__",
      '{"incentive": "birth_record", "data": {"birth_date": "2021-01-30", "date": "2021-03-01", "__proto__": {}}}',
      "/data/__proto__",
    ],
  ])("%s", async (_what, body, pointer) => {
    const {
      status,
      headers,
      body: problem,
    } = await app.ask("/user/incentives", { user: "eve", body });
    expect({
      status,
      pointers: problem.errors?.map((error: { pointer: string }) => error.pointer),
    }).toEqual({
      status: 422,
      pointers: expect.arrayContaining([pointer]),
    });
    expect(headers.get("content-type")).toMatch("application/problem+json");
  });
});

describe("a request is refused:", () => {
  test.each<[string, number, Parameters<TestProcess["ask"]>[1]]>([
    ["a body that is not JSON", 400, { body: "{" }],
    ["a body of another type", 415, { body: "a=b", headers: { "content-type": "text/plain" } }],
    [
      "a body of more than 100 kB",
      413,
      { body: { incentive: "health_data_log", data: Array.from({ length: 2000 }, () => entry) } },
    ],
  ])("%s", async (_what, expected, options) => {
    const { status, body } = await app.ask("/user/incentives", { user: "eve", ...options });
    expect(status).toBe(expected);
    expect(body).toMatchObject({
      status: expected,
      title: expect.any(String),
      detail: expect.any(String),
    });
  });

  test.each(["0", "-1", "1.5", "abc", "99999999999999999999", "1%20or%201=1", "%00"])(
    "the id %s, which cannot be one, like one that is not there",
    async (id) => {
      expect((await app.ask(`/user/incentive/${id}`, { user: "eve" })).status).toBe(404);
    },
  );

  test.each([
    ["alg none", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJldmUiLCJleHAiOjk5OTk5OTk5OTl9."],
    ["no token at all", "Bearer"],
    ["another scheme", "Basic ZXZlOmV2ZQ=="],
    [
      "a signature that does not match",
      "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJldmUiLCJleHAiOjk5OTk5OTk5OTl9.AAAA",
    ],
  ])("%s", async (_what, authorization) => {
    for (const path of ["/user/incentives", "/graphql"]) {
      expect((await app.ask(path, { headers: { authorization } })).status).toBe(401);
    }
  });

  test("a log that would have more than 5,000 entries, of which nothing is kept", async () => {
    const data = Array.from({ length: 900 }, () => entry);
    for (let i = 0; i < 5; i++) {
      await app.ask("/user/incentives", {
        user: "writer",
        body: { incentive: "health_data_log", data },
      });
    }
    const last = await app.ask("/user/incentives", {
      user: "writer",
      body: { incentive: "health_data_log", data },
    });
    expect(last).toMatchObject({ status: 422, body: { errors: [{ pointer: "/data" }] } });
    const { body } = await app.ask("/user/incentives", { user: "writer" });
    expect(body.incentives[0].data).toHaveLength(4500);
  });
});

describe("GraphQL", () => {
  const mutation = `mutation ($incentive: String!, $data: JSON!) {
    recordIncentive(input: { incentive: $incentive, data: $data }) { userIncentive { id status incentive { key } } }
  }`;

  test("records with recordIncentive", async () => {
    const { body } = await app.graphql("frank", mutation, {
      incentive: "health_data_log",
      data: entry,
    });
    expect(body).toEqual({
      data: {
        recordIncentive: {
          userIncentive: {
            id: expect.any(String),
            status: "in_progress",
            incentive: { key: "health_data_log" },
          },
        },
      },
    });
  });

  test("refuses with the same pointers as REST", async () => {
    const { body } = await app.graphql("frank", mutation, {
      incentive: "birth_record",
      data: { birth_date: 1 },
    });
    expect(body.errors[0].extensions).toMatchObject({
      code: "UNPROCESSABLE",
      errors: expect.arrayContaining([expect.objectContaining({ pointer: "/data/date" })]),
    });
  });

  test("offers nothing to write but what members record and operators change, and nothing outside api", async () => {
    const { body } = await app.graphql(
      "frank",
      "{ __schema { mutationType { fields { name } } queryType { fields { name } } } }",
    );
    const names = (type: { fields: { name: string }[] }) =>
      type.fields.map(({ name }) => name).sort();
    expect(names(body.data.__schema.mutationType)).toEqual([
      "createIncentive",
      "createReward",
      "recordIncentive",
      "recordIncentives",
      "setIncentiveRewards",
      "setListenerActive",
      "updateIncentive",
      "updateReward",
    ]);
    expect(names(body.data.__schema.queryType)).toEqual(
      [
        "cacheStatus",
        "catalogueChange",
        "catalogueChangeByNodeId",
        "catalogueChanges",
        "incentive",
        "incentiveByKey",
        "incentiveByNodeId",
        "incentiveListener",
        "incentiveListenerByNodeId",
        "incentiveListeners",
        "incentives",
        "incentiveReward",
        "incentiveRewardByNodeId",
        "incentiveRewards",
        "incentiveTotal",
        "incentiveTotalByNodeId",
        "incentiveTotals",
        "job",
        "jobByNodeId",
        "jobs",
        "node",
        "query",
        "nodeId",
        "reward",
        "rewardByKey",
        "rewardByNodeId",
        "rewards",
        "userIncentive",
        "userIncentiveByNodeId",
        "userIncentives",
        "userReward",
        "userRewardByNodeId",
        "userRewards",
        "userSummary",
      ].sort(),
    );
  });
});
