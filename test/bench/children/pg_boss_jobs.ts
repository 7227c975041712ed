/** pg-boss, a job per row, fetched, judged and completed a hundred at a time, by four loops at once. Called by the drain. */
import { Pool } from "pg";
import { PgBoss } from "pg-boss";
import { loadEvaluators } from "../../../src/evaluation/registry.ts";
import { judgeRows, readDueIds } from "./judge_rows.ts";
import { serve } from "./serve.ts";

const batchSize = 100;
const loops = 4;

await serve(async ({ url }: { url: string }) => {
  const registry = await loadEvaluators();
  const pool = new Pool({ connectionString: url, max: loops });
  const boss = new PgBoss({ connectionString: url });
  boss.on("error", console.error);
  await boss.start();
  await boss.createQueue("judge_row");
  const ids = await readDueIds(pool);
  for (let at = 0; at < ids.length; at += 1000) {
    const jobs = ids.slice(at, at + 1000).map((id) => ({ data: { id } }));
    await boss.insert("judge_row", jobs);
  }
  await pool.query("vacuum analyze pgboss.job");
  await Promise.all(Array.from({ length: loops }, () => pool.query("select pg_sleep(0.01)")));

  const drain = async (): Promise<void> => {
    const client = await pool.connect();
    for (;;) {
      const jobs = await boss.fetch<{ id: string }>("judge_row", { batchSize });
      if (jobs.length === 0) return client.release();
      await judgeRows(
        client,
        registry,
        jobs.map(({ data }) => data.id),
      );
      await boss.complete(
        "judge_row",
        jobs.map(({ id }) => id),
      );
    }
  };
  return async () => {
    await Promise.all(Array.from({ length: loops }, drain));
  };
});
