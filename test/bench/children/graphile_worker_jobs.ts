/** graphile-worker as its documentation has it (`run` with the library's defaults), a job per row. Called by the drain. */
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import { loadEvaluators } from "../../../src/evaluation/registry.ts";
import { judgeRows, readDueIds } from "./judge_rows.ts";
import { serve } from "./serve.ts";

await serve(async ({ url }: { url: string }) => {
  const registry = await loadEvaluators();
  const utils = await makeWorkerUtils({ connectionString: url });
  const ids = await utils.withPgClient((client) => readDueIds(client));
  await utils.addJobs(ids.map((id) => ({ identifier: "judge_row", payload: { id } })));
  await utils.release();
  return async () => {
    await run({
      connectionString: url,
      logger: new Logger(() => () => {}), // it logs every job
      taskList: {
        judge_row: (payload, { withPgClient }) =>
          withPgClient((client) => judgeRows(client, registry, [(payload as { id: string }).id])),
      },
    });
  };
});
