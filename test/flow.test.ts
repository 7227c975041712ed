/** The whole way, from outside: an action over HTTP or SQL, and what a member, another member and a stranger then see. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { waitUntil } from "./test_database.ts";
import { startTestProcess } from "./test_process.ts";
import type { TestProcess } from "./test_process.ts";

const birth = { birth_date: "2021-09-15 15:30:00", date: "2021-09-15 17:15:00" };
const entries = [
  {
    data: [
      { type: "mood", value: "happy" },
      { type: "symptom", value: "cough" },
    ],
    date: "2021-09-15 17:15:00",
  },
  { data: [{ type: "mood", value: "tired" }], date: "2021-09-14 22:22:00" },
];

let app: TestProcess;
beforeAll(async () => {
  app = await startTestProcess();
});
afterAll(() => app.drop());

async function count(query: string, values: unknown[] = []): Promise<number> {
  const { rows } = await app.database.pool.query<{ count: number }>(
    `select count(*)::int as count ${query}`,
    values,
  );
  return rows[0]?.count ?? -1;
}

function waitUntilCompleted(user: string, completed: number): Promise<void> {
  return waitUntil(
    `${user} has ${completed} completed`,
    async () =>
      (await count("from app.user_incentives where user_id = $1 and status = 'completed'", [
        user,
      ])) === completed,
  );
}

describe("a member who records both examples of the programme", () => {
  beforeAll(async () => {
    for (const [incentive, data] of Object.entries({
      birth_record: birth,
      health_data_log: entries,
    })) {
      const { status } = await app.ask("/user/incentives", {
        user: "alice",
        body: { incentive, data },
      });
      expect(status).toBe(201);
    }
    await waitUntilCompleted("alice", 2);
  });

  test("reads both as completed over REST", async () => {
    const { status, body } = await app.ask("/user/incentives", { user: "alice" });
    expect(status).toBe(200);
    expect(body.incentives).toMatchObject([
      { incentive: { key: "birth_record" }, status: "completed", progress: 1, data: birth },
      { incentive: { key: "health_data_log" }, status: "completed", progress: 1, data: entries },
    ]);
    expect(Object.keys(body.incentives[0])).toEqual([
      "id",
      "incentive",
      "status",
      "progress",
      "data",
      "explanation",
      "completed_at",
      "created_at",
      "updated_at",
    ]);
    const one = await app.ask(`/user/incentive/${body.incentives[0].id}`, { user: "alice" });
    expect(one.body).toEqual(body.incentives[0]);
  });

  test("has won each incentive's reward once, with one event each", async () => {
    const { body } = await app.ask("/user/rewards", { user: "alice" });
    expect(body.rewards).toMatchObject([
      {
        reward: { key: "birth_gift_card", kind: "gift_card", amount: 25, unit: "USD" },
        incentive: { key: "birth_record" },
      },
      {
        reward: { key: "log_points", kind: "points", amount: 100, unit: "points" },
        incentive: { key: "health_data_log" },
      },
    ]);
    expect(
      await count(
        `from app.incentive_events as event
        join app.user_incentives as ui on ui.id = event.user_incentive_id
        where ui.user_id = 'alice'`,
      ),
    ).toBe(2);
  });

  test("reads the same over GraphQL", async () => {
    const { body } = await app.graphql(
      "alice",
      `{ userIncentives { nodes { id status incentive { key name } } }
         userRewards { nodes { reward { key } incentive { key } amount unit } } }`,
    );
    expect(body).toEqual({
      data: {
        userIncentives: {
          nodes: [
            {
              id: expect.any(String),
              status: "completed",
              incentive: { key: "birth_record", name: "Record your birth" },
            },
            {
              id: expect.any(String),
              status: "completed",
              incentive: { key: "health_data_log", name: "Log how you feel" },
            },
          ],
        },
        userRewards: {
          nodes: [
            {
              reward: { key: "birth_gift_card" },
              incentive: { key: "birth_record" },
              amount: "25.00",
              unit: "USD",
            },
            {
              reward: { key: "log_points" },
              incentive: { key: "health_data_log" },
              amount: "100.00",
              unit: "points",
            },
          ],
        },
      },
    });
  });

  test("is invisible to another member, over REST and GraphQL", async () => {
    const { body } = await app.ask("/user/incentives", { user: "alice" });
    const { id } = body.incentives[0];
    expect((await app.ask("/user/incentives", { user: "bob" })).body).toEqual({ incentives: [] });
    expect((await app.ask("/user/rewards", { user: "bob" })).body).toEqual({ rewards: [] });
    expect((await app.ask(`/user/incentive/${id}`, { user: "bob" })).status).toBe(404);
    const { nodeId } = (await app.graphql("alice", `{ userIncentive(id: "${id}") { nodeId } }`))
      .body.data.userIncentive;
    const asBob = await app.graphql(
      "bob",
      `{ userIncentive(id: "${id}") { id } node(nodeId: "${nodeId}") { nodeId } userIncentives { nodes { id } } userRewards { nodes { id } } }`,
    );
    expect(asBob.body.data).toEqual({
      userIncentive: null,
      node: null,
      userIncentives: { nodes: [] },
      userRewards: { nodes: [] },
    });
  });

  test.each(["/user/incentives", "/user/incentive/1", "/user/rewards", "/graphql"])(
    "is invisible at %s without a token",
    async (path) => {
      const { status, headers, body } = await app.ask(path);
      expect(status).toBe(401);
      expect(headers.get("content-type")).toMatch("application/problem+json");
      expect(body).toMatchObject({ status: 401, title: "Unauthenticated" });
    },
  );
});

describe("by plain SQL", () => {
  test("an insert is judged, and the update that adds the missing day completes it", async () => {
    await app.database.pool.query(
      `insert into app.user_incentives (user_id, incentive_id, data)
      select 'carol', id, $1 from app.incentives where key = 'health_data_log'`,
      [JSON.stringify(entries.slice(0, 1))],
    );
    await waitUntil("the first day is judged", async () => {
      const { body } = await app.ask("/user/incentives", { user: "carol" });
      return body.incentives[0]?.progress === 0.5;
    });
    await app.database.pool.query(
      "update app.user_incentives set data = $1 where user_id = 'carol'",
      [JSON.stringify(entries)],
    );
    await waitUntilCompleted("carol", 1);
    expect((await app.ask("/user/rewards", { user: "carol" })).body.rewards).toHaveLength(1);
  });

  test("a completion by hand announces itself and pays just the same, and only once", async () => {
    const { pool } = app.database;
    await pool.query(
      `insert into app.user_incentives (user_id, incentive_id, data)
      select 'dave', id, '[]' from app.incentives where key = 'health_data_log'`,
    );
    for (const status of ["completed", "in_progress", "completed"]) {
      await pool.query("update app.user_incentives set status = $1 where user_id = 'dave'", [
        status,
      ]);
    }
    const { body } = await app.ask("/user/incentives", { user: "dave" });
    expect(body.incentives[0]).toMatchObject({
      status: "completed",
      progress: 1,
      completed_at: expect.any(String),
    });
    expect(await count("from app.user_rewards where user_id = 'dave'")).toBe(1);
  });

  test.each([
    ["a wrong type", "health_data_log", '{"date": 1}'],
    ["a number for a log", "health_data_log", "7"],
    [
      "an unreal date of birth",
      "birth_record",
      '{"birth_date": "2021-02-30 10:00", "date": "2021-03-01 10:00"}',
    ],
    ["a thousand levels", "birth_record", "[".repeat(1000) + "]".repeat(1000)],
    [
      "ten thousand entries",
      "health_data_log",
      JSON.stringify(Array.from({ length: 10_000 }, () => entries[0])),
    ],
  ])("%s becomes invalid, with an explanation", async (what, incentive, data) => {
    const { rows } = await app.database.pool.query<{ id: string }>(
      `insert into app.user_incentives (user_id, incentive_id, data)
      select $1, id, $3 from app.incentives where key = $2
      returning id`,
      [`sql: ${what}`, incentive, data],
    );
    await waitUntil(
      "it is judged",
      async () =>
        (await count("from app.user_incentives where id = $1 and not evaluation_due", [
          rows[0]?.id,
        ])) === 1,
    );
    const { body } = await app.ask(`/user/incentive/${rows[0]?.id}`, { user: `sql: ${what}` });
    expect(body.status).toBe("invalid");
    expect(body.explanation).toContainEqual(
      expect.objectContaining({ met: false, message: expect.any(String) }),
    );
  });
});

test("a completed incentive is delivered to the active listener, and no job stays behind", async () => {
  await waitUntil(
    "the queue is empty",
    async () => (await count("from graphile_worker.jobs")) === 0,
  );
  expect(await count("from app.user_incentives where evaluation_due")).toBe(0);
});

test("a process that starts again finds everything and judges nothing twice", async () => {
  const before = await app.ask("/user/incentives", { user: "alice" });
  const events = await count("from app.incentive_events");
  await app.stop();
  app = await startTestProcess(app.database);
  expect((await app.ask("/user/incentives", { user: "alice" })).body).toEqual(before.body);
  expect(await count("from app.incentive_events")).toBe(events);
  expect((await app.ask("/readyz")).status).toBeLessThan(504);
});
