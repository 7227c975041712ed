/** Every task, by the name the database calls it, and the schedule. A job named in SQL without its task here is a bug. */
import { parseCronItems } from "graphile-worker";
import type { ParsedCronItem, TaskList } from "graphile-worker";
import type { Pool } from "pg";
import { Backlog } from "../backlog.ts";
import { refreshCacheTask } from "../cache/refresh.ts";
import { deliverEvents, deliveryDefaults } from "../delivery/deliver_events.ts";
import { deliverIncentiveCompleted } from "../delivery/deliver_incentive_completed.ts";
import type { ListenerRegistry } from "../delivery/registry.ts";
import { Turns } from "../delivery/turns.ts";
import { evaluateAgainTask } from "../evaluation/evaluate_again.ts";
import { evaluateIncentive } from "../evaluation/evaluate_incentive.ts";
import { evaluateIncentives, evaluationDefaults } from "../evaluation/evaluate_incentives.ts";
import type { JudgingPool } from "../evaluation/judging_pool.ts";
import type { EvaluatorRegistry } from "../evaluation/registry.ts";
import type { Logger } from "../logger.ts";
import { pruneIdempotencyKeys } from "./prune_idempotency_keys.ts";
import { announceJudging } from "./announce_judging.ts";
import { withSafeErrors } from "./safe_tasks.ts";

/** Jobs at once: one that judges and one that has just begun to, one that refreshes, one that judges a row alone, and these. */
export const concurrency = 7;
const deliveriesAtMost = 3;

export interface TaskOptions {
  pool: Pool;
  evaluators: EvaluatorRegistry;
  judges: JudgingPool;
  /** Judges rows that could not be judged among others. */
  judgesAlone: JudgingPool;
  listeners: ListenerRegistry;
  logger: Logger;
  /** Begin nothing more: aborted as soon as this process is told to stop. */
  stopping: AbortSignal;
  /** Give up what is in hand: aborted when the time that stopping may take is over. */
  outOfTime: AbortSignal;
}

export function buildTasks(options: TaskOptions): TaskList {
  const { pool, evaluators, judges, judgesAlone, listeners, logger, stopping, outOfTime } = options;
  const backlog = new Backlog();
  const evaluation = {
    ...evaluationDefaults,
    backlog,
    registry: evaluators,
    judges,
    judgeable: [],
    announce: announceJudging(pool, logger, stopping),
    logger,
    stopping,
  };
  const turns = new Turns(deliveriesAtMost);
  const signals = { stopping, outOfTime };
  const delivery = {
    ...deliveryDefaults,
    registry: listeners,
    pool,
    logger,
    turns,
    backlog,
    ...signals,
  };
  return withSafeErrors({
    evaluate_incentives: evaluateIncentives(evaluation),
    evaluate_incentive: evaluateIncentive({ ...evaluation, judges: judgesAlone }),
    evaluate_again: evaluateAgainTask(pool),
    deliver_events: deliverEvents(delivery),
    deliver_incentive_completed: deliverIncentiveCompleted(delivery),
    refresh_cache: refreshCacheTask(pool, logger, stopping),
    prune_idempotency_keys: pruneIdempotencyKeys(pool, logger),
  });
}

/** Times are UTC. `cacheRefreshCron` has five fields, as in crontab. */
export function buildSchedule(cacheRefreshCron: string): ParsedCronItem[] {
  return parseCronItems([
    {
      task: "refresh_cache",
      match: cacheRefreshCron,
      identifier: "refresh_cache",
      options: { backfillPeriod: 0, maxAttempts: 5, jobKey: "refresh_cache" },
    },
    {
      task: "prune_idempotency_keys",
      match: "23 * * * *",
      identifier: "prune_idempotency_keys",
      options: { backfillPeriod: 0, maxAttempts: 5, jobKey: "prune_idempotency_keys" },
    },
  ]);
}
