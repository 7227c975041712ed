/**
 * A worker that answers the bell and does nothing else: no sweep, no schedule, so that what the bell itself misses stays
 * missed. Run as a process by bell.test.ts, with the database's URL as its argument; it prints the id its jobs are locked by.
 */
import { EventEmitter } from "node:events";
import { run } from "graphile-worker";
import type { WorkerEvents } from "graphile-worker";
import { openPool } from "../../src/database/pools.ts";
import {
  evaluateIncentives,
  evaluationDefaults,
} from "../../src/evaluation/evaluate_incentives.ts";
import { JudgingPool, judgingDefaults } from "../../src/evaluation/judging_pool.ts";
import { loadEvaluators } from "../../src/evaluation/registry.ts";
import { createLogger } from "../../src/logger.ts";
import { workerLogger } from "../../src/worker/worker_logger.ts";

const [, , connectionString, ending] = process.argv;
const logger = createLogger("silent");
const events: WorkerEvents = new EventEmitter();
events.once("pool:create", ({ workerPool }) => console.log(workerPool.id));

await run({
  pgPool: openPool(connectionString ?? "", "bell", 10, logger),
  events,
  concurrency: 2,
  pollInterval: 500,
  logger: workerLogger(logger),
  taskList: {
    evaluate_incentives: evaluateIncentives({
      ...evaluationDefaults,
      // Often asleep, so that the writers meet every stage of it.
      lingerMs: 5,
      awakeAtMostMs: 60,
      ending: ending === "first_empty_claim" ? ending : "wait_for_writers",
      registry: await loadEvaluators(),
      judges: new JudgingPool(judgingDefaults),
      judgeable: [],
      logger,
      stopping: new AbortController().signal,
    }),
  },
});
