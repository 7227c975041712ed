/** /metrics over HTTP: who may read it, what it counts, and that it names no member. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import getPort from "get-port";
import { createTokens } from "../src/api/tokens/tokens.ts";
import { readConfiguration } from "../src/configuration.ts";
import { createLogger } from "../src/logger.ts";
import { createGauges } from "../src/metrics/gauges.ts";
import { start } from "../src/start.ts";
import { createTestDatabase, waitUntil } from "./test_database.ts";
import { metricsToken, startTestProcess } from "./test_process.ts";
import type { TestProcess } from "./test_process.ts";

const birth = { birth_date: "2021-09-15 15:30:00", date: "2021-09-15 17:15:00" };

let app: TestProcess;
beforeAll(async () => {
  app = await startTestProcess();
});
afterAll(() => app.drop());

async function read(url: string, token: string | undefined = metricsToken) {
  const response = await fetch(`${url}/metrics`, {
    headers: token === "" ? {} : { authorization: `Bearer ${token}` },
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

function valueOf(text: string, series: string): number | undefined {
  const line = text.split("\n").find((candidate) => candidate.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length));
}

describe("/metrics", () => {
  test("is refused to who sends no token, another one, or a member's own", async () => {
    const member = await createTokens("a secret for tests, of more than 32 characters").sign(
      "alice",
      "1h",
    );
    for (const token of ["", "x", member]) {
      const { status, headers, text } = await read(app.url, token);
      expect(status).toBe(401);
      expect(headers.get("www-authenticate")).toBe("Bearer");
      expect(text).not.toContain("incentives_");
    }
  });

  test("counts deliveries, rows that are due, parked jobs and what the process uses, and names no member", async () => {
    const body = { incentive: "birth_record", data: birth };
    expect((await app.ask("/user/incentives", { user: "dora-the-member", body })).status).toBe(201);
    const delivered = 'incentives_deliveries_total{listener="log_completion",outcome="delivered"}';
    await waitUntil("the delivery is counted", async () => {
      return valueOf((await read(app.url)).text, delivered) === 1;
    });
    const { status, headers, text } = await read(app.url);
    expect(status).toBe(200);
    expect(headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
    const completed = 'incentives_evaluations_total{incentive="birth_record",status="completed"}';
    expect(valueOf(text, completed)).toBe(1);
    expect(valueOf(text, "incentives_batch_rows_count")).toBeGreaterThanOrEqual(1);
    expect(valueOf(text, "incentives_batch_duration_seconds_count")).toBeGreaterThanOrEqual(1);
    expect(valueOf(text, "incentives_rows_due")).toBeGreaterThanOrEqual(0);
    expect(valueOf(text, "incentives_oldest_due_seconds")).toBeLessThan(10);
    expect(valueOf(text, "incentives_runner_restarts_total")).toBe(0);
    expect(valueOf(text, "process_cpu_seconds_total")).toBeGreaterThan(0);
    expect(text).not.toContain("dora-the-member");
    expect(text).not.toContain("2021-09-15");
  });
});

test("what a listener has yet to be told of is a gauge of its own", async () => {
  const database = await createTestDatabase();
  await database.pool.query(
    "insert into app.undelivered_events (listener, event_ids) values ('slow', '{1,2,3}'), ('slow', '{4}')",
  );
  const text = await createGauges(database.pool, createLogger("silent"))();
  await database.drop();
  expect(valueOf(text, 'incentives_events_undelivered{listener="slow"}')).toBe(4);
});

describe("a worker that runs alone", () => {
  test("serves what waits in the database and what is parked on METRICS_PORT, and nothing else", async () => {
    await app.stop();
    const { pool, ownerUrl } = app.database;
    const port = await getPort();
    // A row that nobody here can judge, an hour old, and a job that was given up.
    await pool.query(`
      with incentive as (
        insert into app.incentives (key, name, evaluator, records)
        values ('orphan', 'Orphan', 'not_there', 'document')
        returning id
      )
      insert into app.user_incentives (user_id, incentive_id, data, updated_at)
      select 'erik', id, '{}', now() - interval '1 hour' from incentive`);
    await pool.query(`
      select graphile_worker.permanently_fail_jobs(array[(
        graphile_worker.add_job('evaluate_incentive', '{"user_incentive_id": "7"}')
      ).id], 'for the test')`);
    const worker = await start({
      configuration: readConfiguration({
        DATABASE_URL: ownerUrl,
        METRICS_TOKEN: metricsToken,
        METRICS_PORT: String(port),
        NODE_ENV: "test",
      }),
      logger: createLogger("silent"),
      only: "worker",
    });
    try {
      const url = `http://127.0.0.1:${port}`;
      const { text } = await read(url);
      expect(valueOf(text, "incentives_rows_due")).toBe(1);
      const oldest = valueOf(text, "incentives_oldest_due_seconds") ?? 0;
      expect(Math.abs(oldest - 3600)).toBeLessThan(60);
      expect(valueOf(text, 'incentives_jobs_parked{task="evaluate_incentive"}')).toBe(1);
      expect((await fetch(`${url}/healthz`)).status).toBe(404);
      expect((await read(url, "")).status).toBe(401);
    } finally {
      await worker.stop();
    }
  });

  test("refuses METRICS_PORT without METRICS_TOKEN, because nobody could read it", () => {
    expect(() => readConfiguration({ METRICS_PORT: "9000" })).toThrow(/METRICS_TOKEN/);
  });
});
