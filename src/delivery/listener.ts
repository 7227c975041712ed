/**
 * The adapter that reacts to a completed incentive: one file in `src/listeners/` exports one `listener`.
 *
 * It may be called twice with the same event (after a crash or a failure), so what it does must be safe to do again:
 * `event.id` is the same each time. It never writes `app.user_incentives`. Winning the reward is not its job: that has
 * happened already, in the completion's own transaction.
 */
import type { Logger } from "../logger.ts";

export interface IncentiveCompletedListener {
  /** What `app.incentive_listeners.name` calls it; also the name of its file. It runs while that row is active. */
  name: string;
  /** Throws when it did not succeed: it is called again later, with growing pauses, and parked after the last attempt. */
  handle(event: IncentiveCompleted, helpers: ListenerHelpers): Promise<void>;
}

export interface ListenerHelpers {
  /** Aborted when the call has taken too long or the process is stopping. */
  signal: AbortSignal;
  logger: Logger;
}

export interface IncentiveCompleted {
  id: string;
  userIncentiveId: string;
  userId: string;
  /** The incentive's key. */
  incentive: string;
  occurredAt: Date;
  rewards: { key: string; kind: string; amount: string; unit: string }[];
}
