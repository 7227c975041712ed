/** Recording with an idempotency key, over REST and GraphQL: once, however often it is sent. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { waitUntil } from "../test_database.ts";
import { startTestProcess } from "../test_process.ts";
import type { Answer, TestProcess } from "../test_process.ts";

let app: TestProcess;
beforeAll(async () => {
  app = await startTestProcess();
});
afterAll(() => app.drop());

const entry = { date: "2021-09-15 17:15:00", data: [{ type: "mood", value: "happy" }] };
const log = { incentive: "health_data_log", data: entry };

function send(user: string, key: string, body: unknown = log): Promise<Answer> {
  return app.ask("/user/incentives", { user, body, headers: { "idempotency-key": key } });
}

async function entriesOf(user: string): Promise<number> {
  const { rows } = await app.database.pool.query<{ entries: number }>(
    `select coalesce(sum(jsonb_array_length(data)), 0)::int as entries
    from app.user_incentives as ui
    join app.incentives on incentives.id = ui.incentive_id
    where user_id = $1 and key = 'health_data_log'`,
    [user],
  );
  return rows[0]?.entries ?? -1;
}

const mutation = `mutation ($key: String, $data: JSON!) {
  recordIncentive(input: { incentive: "health_data_log", data: $data, idempotencyKey: $key }) {
    userIncentive { id data }
  }
}`;

describe("a request that is sent again with its key", () => {
  test("is recorded once, answers 201 with the same row, and says that it is a replay", async () => {
    const first = await send("alice", "a1");
    const again = await send("alice", "a1");
    expect([first.status, again.status]).toEqual([201, 201]);
    expect(again.headers.get("location")).toBe(first.headers.get("location"));
    expect(first.headers.get("idempotency-replayed")).toBeNull();
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    expect(again.body).toMatchObject({ id: first.body.id, data: [entry] });
    expect(await entriesOf("alice")).toBe(1);
  });

  test("is the same when the key is quoted, and when properties stand in another order", async () => {
    await send("berta", '"b\\"1"');
    const again = await send(
      "berta",
      'b"1',
      '{"data":{"data":[{"value":"happy","type":"mood"}],"date":"2021-09-15 17:15:00"},"incentive":"health_data_log"}',
    );
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    expect(await entriesOf("berta")).toBe(1);
  });

  test("is the same over GraphQL as over REST", async () => {
    await send("carla", "c1");
    const { body } = await app.graphql("carla", mutation, { key: "c1", data: entry });
    expect(body.data.recordIncentive.userIncentive.data).toEqual([entry]);
    await app.graphql("carla", mutation, { key: "c2", data: entry });
    await app.graphql("carla", mutation, { key: "c2", data: entry });
    expect(await entriesOf("carla")).toBe(2);
  });

  test("answers with the row as it is now, which may have grown since", async () => {
    await send("dora", "d1");
    await send("dora", "d2");
    expect((await send("dora", "d1")).body.data).toHaveLength(2);
  });

  test("answers 410 when the row was erased meanwhile, and records nothing", async () => {
    await send("erased", "e1");
    await app.database.pool.query("delete from app.user_incentives where user_id = 'erased'");
    expect(await send("erased", "e1")).toMatchObject({ status: 410, body: { code: "GONE" } });
    expect(await entriesOf("erased")).toBe(0);
  });
});

describe("a key", () => {
  test("is refused with 422 for another body, and for another incentive", async () => {
    await send("frank", "f1");
    const other = { ...log, data: { ...entry, date: "2021-09-16 10:00:00" } };
    expect(await send("frank", "f1", other)).toMatchObject({
      status: 422,
      body: { code: "IDEMPOTENCY_KEY_REUSED" },
    });
    const { body } = await app.graphql("frank", mutation, { key: "f1", data: other.data });
    expect(body.errors[0].extensions.code).toBe("IDEMPOTENCY_KEY_REUSED");
    expect(await entriesOf("frank")).toBe(1);
  });

  test("is the member's own: another member's is another key", async () => {
    await send("gina", "shared");
    expect((await send("hans", "shared")).headers.get("idempotency-replayed")).toBeNull();
    expect(await entriesOf("hans")).toBe(1);
  });

  test("stays free when its request was refused", async () => {
    expect((await send("ida", "i1", { ...log, data: { date: 1 } })).status).toBe(422);
    expect((await send("ida", "i1")).status).toBe(201);
  });

  test.each(["", "two words", "x".repeat(256), "ü", '"open', '""'])(
    "is refused with 400 when it cannot be one: %j",
    async (key) => {
      expect(await send("jan", key)).toMatchObject({
        status: 400,
        body: { detail: "The Idempotency-Key must be 1 to 255 visible ASCII characters." },
      });
    },
  );

  test("is refused over GraphQL with a pointer when it cannot be one", async () => {
    const { body } = await app.graphql("jan", mutation, { key: "two words", data: entry });
    expect(body.errors[0].extensions).toMatchObject({
      code: "UNPROCESSABLE",
      errors: [
        { pointer: "/idempotencyKey", message: "must be 1 to 255 visible ASCII characters" },
      ],
    });
  });
});

test("thirty at once with one key have one effect, and all are answered alike", async () => {
  const answers = await Promise.all(Array.from({ length: 30 }, () => send("karl", "k1")));
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
  expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
  const first = answers.filter(({ headers }) => !headers.has("idempotency-replayed"));
  expect(first).toHaveLength(1);
  expect(await entriesOf("karl")).toBe(1);
});

test("keys are kept for 72 hours, pruned after that, and hold nothing that was recorded", async () => {
  await send("lena", "old");
  await send("lena", "young");
  const { pool } = app.database;
  for (const [key, hours] of [
    ["old", 73],
    ["young", 71],
  ]) {
    await pool.query(
      "update app.idempotency_keys set created_at = now() - make_interval(hours => $2) where key = $1",
      [key, hours],
    );
  }
  await pool.query("select graphile_worker.add_job('prune_idempotency_keys')");
  await waitUntil("the worker pruned", async () => {
    const { rows } = await pool.query("select from app.idempotency_keys where key = 'old'");
    return rows.length === 0;
  });
  const { rows } = await pool.query("select * from app.idempotency_keys where caller_id = 'lena'");
  expect(rows).toMatchObject([{ key: "young" }]);
  expect(Object.keys(rows[0]).sort()).toEqual(
    ["caller_id", "created_at", "incentive_id", "key", "request_hash", "user_id"].sort(),
  );
  expect(rows[0].request_hash).toHaveLength(32);
});
