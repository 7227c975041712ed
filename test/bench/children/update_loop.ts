/**
 * The least that judging could cost: one client that writes a verdict's columns to a thousand rows a statement, into the table
 * without triggers, events and rewards. Called by the drain.
 */
import { Client } from "pg";
import { readDueIds } from "./judge_rows.ts";
import { serve } from "./serve.ts";

export interface UpdateLoopOptions {
  url: string;
  /** A verdict's explanation, as JSON. */
  explanation: string;
}

await serve(async ({ url, explanation }: UpdateLoopOptions) => {
  const client = new Client({ connectionString: url });
  await client.connect();
  const ids = await readDueIds(client, "app.bare");
  return async () => {
    for (let at = 0; at < ids.length; at += 1000) {
      await client.query({
        name: "update",
        text: `
          update app.bare
          set status = 'completed', progress = 1, explanation = $2::jsonb, evaluation_due = false,
            completed_at = now(), updated_at = now()
          where id = any ($1::bigint[])`,
        values: [ids.slice(at, at + 1000), explanation],
      });
    }
  };
});
