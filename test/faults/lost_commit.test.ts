/** The reply to COMMIT is lost: what was recorded is there, but nobody was told. With its key the retry has no second effect. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { createTestDatabase } from "../test_database.ts";
import { startTestProcess } from "../test_process.ts";
import type { Answer, TestProcess } from "../test_process.ts";
import { startCommitCutter } from "./commit_cutter.ts";
import type { CommitCutter } from "./commit_cutter.ts";

let cutter: CommitCutter;
let app: TestProcess;
beforeAll(async () => {
  const database = await createTestDatabase();
  cutter = await startCommitCutter(database.authenticatorUrl);
  app = await startTestProcess({
    ...database,
    authenticatorUrl: cutter.through(database.authenticatorUrl),
  });
});
afterAll(async () => {
  await app.drop();
  await cutter.stop();
});

const entry = { date: "2021-09-15 17:15:00", data: [{ type: "mood", value: "happy" }] };
const log = { incentive: "health_data_log", data: entry };

function send(user: string, headers: Record<string, string>): Promise<Answer> {
  return app.ask("/user/incentives", { user, body: log, headers });
}

async function entriesOf(user: string): Promise<number> {
  const { rows } = await app.database.pool.query<{ entries: number }>(
    "select jsonb_array_length(data) as entries from app.user_incentives where user_id = $1",
    [user],
  );
  return rows[0]?.entries ?? 0;
}

async function loseReply(ask: () => Promise<Answer>): Promise<Answer> {
  const before = cutter.cuts();
  cutter.cutNext();
  const answer = await ask();
  expect(cutter.cuts()).toBe(before + 1);
  return answer;
}

test("over REST: 503 with Retry-After, and the retry with its key has exactly one effect", async () => {
  const headers = { "idempotency-key": "once" };
  const lost = await loseReply(() => send("alice", headers));
  expect(lost.status).toBe(503);
  expect(lost.headers.get("retry-after")).toMatch(/^\d+$/);
  expect(await entriesOf("alice")).toBe(1);
  const retried = await send("alice", headers);
  expect(retried).toMatchObject({ status: 201, body: { data: [entry] } });
  expect(retried.headers.get("idempotency-replayed")).toBe("true");
  expect(await entriesOf("alice")).toBe(1);
});

test("over GraphQL: an error with a code, and the retry with its key has exactly one effect", async () => {
  const record = () =>
    app.graphql(
      "berta",
      `mutation ($data: JSON!) {
        recordIncentive(input: { incentive: "health_data_log", data: $data, idempotencyKey: "once" }) {
          userIncentive { data }
        }
      }`,
      { data: entry },
    );
  const lost = await loseReply(record);
  expect(await entriesOf("berta")).toBe(1);
  expect(lost.body.errors[0].extensions.code).toBe("UNAVAILABLE");
  const { body } = await record();
  expect(body.data.recordIncentive.userIncentive.data).toEqual([entry]);
  expect(await entriesOf("berta")).toBe(1);
});

test("a batch: each of its actions has exactly one effect", async () => {
  const actions = [1, 2, 3].map((key) => ({ ...log, idempotencyKey: String(key) }));
  const record = () => app.ask("/user/incentives/batch", { user: "carla", body: { actions } });
  expect((await loseReply(record)).status).toBe(503);
  expect((await record()).body.results).toMatchObject([
    { status: 201, replayed: true },
    { status: 201, replayed: true },
    { status: 201, replayed: true },
  ]);
  expect(await entriesOf("carla")).toBe(3);
});

test("a batch over GraphQL: an error with a code, and each of its actions has exactly one effect", async () => {
  const actions = [1, 2, 3].map((key) => ({ ...log, idempotencyKey: String(key) }));
  const query = `mutation ($actions: [RecordIncentivesAction!]!) {
    recordIncentives(input: { actions: $actions }) { results { status replayed } }
  }`;
  const record = () => app.graphql("doris", query, { actions });
  const lost = await loseReply(record);
  expect(lost.body.errors[0].extensions.code).toBe("UNAVAILABLE");
  const { body } = await record();
  expect(body.data.recordIncentives.results).toEqual(
    actions.map(() => ({ status: 201, replayed: true })),
  );
  expect(await entriesOf("doris")).toBe(3);
});

test("without a key the retry is recorded a second time, which is what the key is for", async () => {
  expect((await loseReply(() => send("naive", {}))).status).toBe(503);
  expect((await send("naive", {})).status).toBe(201);
  expect(await entriesOf("naive")).toBe(2);
});
