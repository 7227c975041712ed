/** Every task, by the name the database calls it, and the schedule. A job named in SQL without its task here is a bug. */
import { parseCronItems } from "graphile-worker";
import type { ParsedCronItem, TaskList } from "graphile-worker";
import type { Pool } from "pg";
import { refreshCacheTask } from "../cache/refresh.ts";
import {
  deliverIncentiveCompleted,
  deliveryDefaults,
} from "../delivery/deliver_incentive_completed.ts";
import type { ListenerRegistry } from "../delivery/registry.ts";
import { evaluateIncentive } from "../evaluation/evaluate_incentive.ts";
import { evaluateIncentives, evaluationDefaults } from "../evaluation/evaluate_incentives.ts";
import type { EvaluatorRegistry } from "../evaluation/registry.ts";
import type { Logger } from "../logger.ts";
import { sweep } from "./sweep.ts";

export interface TaskOptions {
  pool: Pool;
  evaluators: EvaluatorRegistry;
  listeners: ListenerRegistry;
  logger: Logger;
  stopping: AbortSignal;
}

export function buildTasks(options: TaskOptions): TaskList {
  const { pool, evaluators, listeners, logger, stopping } = options;
  const evaluation = { ...evaluationDefaults, registry: evaluators, logger, stopping };
  return {
    evaluate_incentives: evaluateIncentives(evaluation),
    evaluate_incentive: evaluateIncentive(evaluation),
    deliver_incentive_completed: deliverIncentiveCompleted({
      ...deliveryDefaults,
      registry: listeners,
      pool,
      logger,
      stopping,
    }),
    refresh_cache: refreshCacheTask(pool, logger),
    sweep: () => sweep(pool),
  };
}

/** Times are UTC. `cacheRefreshCron` has five fields, as in crontab. */
export function buildSchedule(cacheRefreshCron: string): ParsedCronItem[] {
  return parseCronItems([
    {
      task: "refresh_cache",
      match: cacheRefreshCron,
      identifier: "refresh_cache",
      options: { backfillPeriod: 0, maxAttempts: 1, jobKey: "refresh_cache" },
    },
    {
      task: "sweep",
      match: "* * * * *",
      identifier: "sweep",
      options: { backfillPeriod: 0, maxAttempts: 1, jobKey: "sweep" },
    },
  ]);
}
