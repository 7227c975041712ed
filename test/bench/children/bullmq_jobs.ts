/** BullMQ, a job per row; it hands its worker one job at a time, fifty of them at once. Called by the drain. */
import { Queue, Worker } from "bullmq";
import { Pool } from "pg";
import { loadEvaluators } from "../../../src/evaluation/registry.ts";
import { judgeRows, readDueIds } from "./judge_rows.ts";
import { serve } from "./serve.ts";

const concurrency = 50;

await serve(async ({ url, redisPort }: { url: string; redisPort: number }) => {
  const registry = await loadEvaluators();
  const connection = { host: "127.0.0.1", port: redisPort, maxRetriesPerRequest: null };
  const pool = new Pool({ connectionString: url, max: concurrency });
  const name = new URL(url).pathname.slice(1);
  const queue = new Queue<{ id: string }>(name, { connection });
  const ids = await readDueIds(pool);
  for (let at = 0; at < ids.length; at += 1000) {
    const jobs = ids.slice(at, at + 1000).map((id) => ({ name: "judge_row", data: { id } }));
    await queue.addBulk(jobs);
  }
  const judgeOne = async ({ data }: { data: { id: string } }): Promise<void> => {
    const client = await pool.connect();
    try {
      await judgeRows(client, registry, [data.id]);
    } finally {
      client.release();
    }
  };
  const worker = new Worker<{ id: string }>(name, judgeOne, {
    connection,
    concurrency,
    autorun: false,
  });
  await worker.waitUntilReady();
  await Promise.all(Array.from({ length: concurrency }, () => pool.query("select pg_sleep(0.05)")));
  return async () => {
    void worker.run();
  };
});
