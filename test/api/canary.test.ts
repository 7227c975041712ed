/**
 * A text is planted wherever a member can write one: in good data, in data that is refused, in keys, names, headers and paths, in
 * data that no evaluator can judge. It must come back to its member only, and stand in no log line, job, NOTIFY, error or
 * metric.
 */
import { Writable } from "node:stream";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Client } from "pg";
import { pino } from "pino";
import { silenceLibraries } from "../../src/library_output.ts";
import { waitUntil } from "../test_database.ts";
import { metricsToken, startTestProcess } from "../test_process.ts";
import type { Answer, TestProcess } from "../test_process.ts";

const canary = "zqcanaryqz";
const channels = ["incentive_completed", "member_changed", "members_heard", "jobs:insert"];

let app: TestProcess;
let listener: Client;
let log = "";
const notified: string[] = [];
/** What everybody but the member who wrote it was answered, and every error. */
const errors: Answer[] = [];

beforeAll(async () => {
  const stream = new Writable({
    write(line, _encoding, done) {
      log += String(line);
      done();
    },
  });
  const logger = pino({ level: "trace" }, stream);
  silenceLibraries(logger);
  app = await startTestProcess(undefined, { logger });
  listener = new Client({ connectionString: app.database.ownerUrl });
  await listener.connect();
  listener.on("notification", ({ channel, payload }) => notified.push(`${channel} ${payload}`));
  for (const channel of channels) await listener.query(`listen "${channel}"`);
});
afterAll(async () => {
  await listener.end();
  await app.drop();
});

const entry = { date: "2021-09-15 17:15:00", data: [{ type: "mood", value: canary }] };

async function record(user: string, body: unknown, headers = {}): Promise<Answer> {
  const answer = await app.ask("/user/incentives", { user, body, headers });
  if (answer.status >= 400) errors.push(answer);
  return answer;
}

test("what a member writes is answered to that member", async () => {
  const own = await record("ann", { incentive: "health_data_log", data: entry });
  expect(own.status).toBe(201);
  expect(JSON.stringify(own.body)).toContain(canary);
  const twice = [entry, { ...entry, date: "2021-09-16 08:00:00" }];
  const key = { "idempotency-key": `"${canary}"` };
  expect((await record("ben", { incentive: "health_data_log", data: twice }, key)).status).toBe(
    201,
  );
  await waitUntil("ben has completed", async () => {
    const { body } = await app.ask("/user/rewards", { user: "ben" });
    return body.rewards.length > 0;
  });
  errors.push(await app.ask("/user/incentives", { user: "eve" }));
});

test("what is refused is refused without it", async () => {
  const key = { "idempotency-key": canary };
  const refused = await Promise.all([
    record("ann", { incentive: canary, data: entry }),
    record("ann", { incentive: "health_data_log", data: { [canary]: canary } }),
    record("ann", { incentive: "health_data_log", data: { ...entry, date: canary } }),
    record("ann", { incentive: "birth_record", data: { birth_date: canary, date: canary } }),
    record("ann", { incentive: "birth_record", data: canary, [canary]: canary }),
    record("ann", `{"incentive": "${canary}`),
    record(
      "ann",
      { incentive: "health_data_log", data: entry },
      { "idempotency-key": `${canary} ${canary}é`.slice(0, 21) + " " },
    ),
    record(
      "ben",
      { incentive: "birth_record", data: { birth_date: "2021-09-15", date: "2021-09-15" } },
      { ...key, "content-type": `text/${canary}` },
    ),
    app.ask(`/user/incentive/${canary}`, { user: "ann" }),
    app.ask(`/${canary}?${canary}=${canary}`, { user: "ann" }),
    app.ask("/user/incentives", {
      headers: { authorization: `Bearer ${canary}.${canary}.${canary}` },
    }),
    app.ask("/user/incentives/events", { user: "ann", headers: { "last-event-id": canary } }),
    app.ask("/user/incentives/batch", {
      user: "ann",
      body: {
        actions: [{ incentive: canary, data: canary, userId: canary, idempotencyKey: canary }],
      },
    }),
    app.graphql(
      "ann",
      `mutation ($data: JSON!) { recordIncentive(input: { incentive: "health_data_log", data: $data }) { userIncentive { id } } }`,
      { data: { [canary]: canary } },
    ),
    app.graphql("ann", `{ ${canary}: userIncentives(first: 9999) { nodes { id } } }`),
    app.graphql("ann", `query { node(nodeId: "${canary}") { nodeId } }`),
  ]);
  errors.push(...refused);
  for (const { status, body } of refused) {
    expect([status, body]).toEqual([expect.any(Number), expect.anything()]);
  }
});

test("what cannot be judged is parked without it", async () => {
  // As a client of the database may write it: of the wrong form, and with what the evaluator does not expect.
  await app.database.pool.query(
    `insert into app.user_incentives (user_id, incentive_id, data)
    select 'by sql ' || n, id, jsonb_build_object($1::text, $1::text, 'birth_date', repeat($1, 100))
    from app.incentives, generate_series(1, 3) as n`,
    [canary],
  );
  await waitUntil("they are judged", async () => {
    const { rowCount } = await app.database.pool.query(
      "select from app.user_incentives where evaluation_due",
    );
    return rowCount === 0;
  });
});

test("it stands in no error, log line, job, notification or metric", async () => {
  const metrics = await fetch(`${app.url}/metrics`, {
    headers: { authorization: `Bearer ${metricsToken}` },
  });
  const jobs = await app.database.pool.query(
    "select payload::text, last_error, key, flags::text from graphile_worker._private_jobs",
  );
  await listener.query("select 1"); // whatever was sent before has arrived by then
  const heard = new Set(notified.map((line) => line.split(" ")[0]));
  expect([...heard]).toEqual(expect.arrayContaining(["incentive_completed", "member_changed"]));
  expect(log).toContain("IncentiveCompleted");
  expect(log).not.toContain(canary);
  expect(notified.join("\n")).not.toContain(canary);
  expect(JSON.stringify(jobs.rows)).not.toContain(canary);
  expect(await metrics.text()).not.toContain(canary);
  expect(errors.length).toBeGreaterThan(15);
  for (const { body, headers } of errors) {
    expect(JSON.stringify([body, [...headers]], withoutPointers)).not.toContain(canary);
  }
});

/** A pointer names a field by the name that its sender gave it, and goes to its sender alone. */
function withoutPointers(key: string, value: unknown): unknown {
  return key === "pointer" ? undefined : value;
}
