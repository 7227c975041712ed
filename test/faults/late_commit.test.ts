/**
 * The connection breaks while a COMMIT is on its way, and the COMMIT arrives afterwards: a member who reads in between is
 * answered with what is there, and with the write as soon as that is there. No worker runs, which would tell of it too.
 */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { readConfiguration } from "../../src/configuration.ts";
import { createLogger } from "../../src/logger.ts";
import { start } from "../../src/start.ts";
import type { RunningProcess } from "../../src/start.ts";
import { tokenOf } from "../live_clients.ts";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";
import { jwtSecret } from "../test_process.ts";
import { startCommitCutter } from "./commit_cutter.ts";
import type { CommitCutter } from "./commit_cutter.ts";

let database: TestDatabase;
let cutter: CommitCutter;
let api: RunningProcess;
beforeAll(async () => {
  database = await createTestDatabase();
  cutter = await startCommitCutter(database.authenticatorUrl);
  api = await start({
    only: "api",
    configuration: readConfiguration({
      PORT: "0",
      AUTH_DATABASE_URL: cutter.through(database.authenticatorUrl),
      JWT_SECRET: jwtSecret,
      NODE_ENV: "test",
    }),
    logger: createLogger("silent"),
  });
});
afterAll(async () => {
  await api.stop();
  await cutter.stop();
  await database.drop();
});

const entry = { date: "2021-09-15 17:15:00", data: [{ type: "mood", value: "happy" }] };
const mutation = `mutation ($data: JSON!) {
  recordIncentive(input: { incentive: "health_data_log", data: $data }) { userIncentive { id } }
}`;

async function send(user: string, path: string, body?: object): Promise<Response> {
  const headers = { authorization: await tokenOf(user), "content-type": "application/json" };
  return fetch(`http://127.0.0.1:${api.apiPort}${path}`, {
    headers,
    ...(body && { method: "POST", body: JSON.stringify(body) }),
  });
}

/** How many entries the API says there are, and where it has that from. */
async function read(user: string): Promise<[number, string | null]> {
  const response = await send(user, "/user/incentives");
  const { incentives } = (await response.json()) as { incentives: { data: unknown[] }[] };
  return [incentives[0]?.data.length ?? 0, response.headers.get("x-cache")];
}

test.each([
  ["REST", "/user/incentives", { incentive: "health_data_log", data: entry }],
  ["GraphQL", "/graphql", { query: mutation, variables: { data: entry } }],
])("over %s nothing is kept while the write may still come", async (how, path, body) => {
  expect((await send(how, path, body)).ok).toBe(true);
  await waitUntil("it is in memory", async () => (await read(how))[1] === "hit");
  const letGo = cutter.holdNext();
  expect((await send(how, path, body)).status).toBe(503);
  expect(await read(how)).toEqual([1, "live"]);
  expect(await read(how)).toEqual([1, "live"]);
  letGo();
  await waitUntil("it is committed", async () => {
    const { rows } = await database.pool.query<{ entries: number }>(
      "select jsonb_array_length(data) as entries from app.user_incentives where user_id = $1",
      [how],
    );
    return rows[0]?.entries === 2;
  });
  expect(await read(how)).toEqual([2, "live"]);
});
