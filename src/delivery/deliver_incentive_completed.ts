/**
 * The task `deliver_incentive_completed`: tries again what a listener failed on (deliver_events.ts). The payload is an array and
 * the answer has a place for each of its entries, so that the library keeps and retries only those that failed. What there was
 * no time for goes back to where it came from.
 */
import type { Task } from "graphile-worker";
import type { Pool } from "pg";
import { JobError } from "../job_error.ts";
import { deliver } from "./deliver.ts";
import type { Completions, Delivery, DeliveryOptions } from "./deliver.ts";

declare global {
  namespace GraphileWorker {
    interface Tasks {
      deliver_incentive_completed: Delivery[];
    }
  }
}

export function deliverIncentiveCompleted(
  options: DeliveryOptions,
): Task<"deliver_incentive_completed"> {
  const { pool, turns } = options;
  return async (payload) => {
    const deliveries = checkPayload(payload);
    // They are one listener's, unless somebody made the job by hand.
    const listener = deliveries[0]?.listener ?? "";
    if (!turns.take(listener)) return putBack(pool, deliveries);
    let isSlow = false;
    try {
      const { rows } = await pool.query<{ completions: Completions }>(
        "select app.read_completions($1::bigint[]) as completions",
        [deliveries.map(({ event_id }) => event_id)],
      );
      const { failed, untold } = await deliver(options, deliveries, rows[0]!.completions);
      isSlow = untold.length > 0;
      await putBack(pool, untold);
      return deliveries.map((_, place) =>
        failed.has(place) ? Promise.reject(failed.get(place) as Error) : undefined,
      );
    } finally {
      turns.giveBack(listener, isSlow);
    }
  };
}

async function putBack(pool: Pool, untold: Delivery[]): Promise<void> {
  for (const [listener, deliveries] of Map.groupBy(untold, (delivery) => delivery.listener)) {
    await pool.query(
      "select app.settle_deliveries($1, '{}', '{}', $2), app.ring_for_deliveries(array[$1], '2 seconds')",
      [listener, deliveries.map(({ event_id }) => event_id)],
    );
  }
}

/** Jobs can be added by SQL, so the type alone proves nothing. */
function checkPayload(payload: unknown): Delivery[] {
  const isDelivery = (entry: unknown): entry is Delivery =>
    typeof entry === "object" &&
    entry !== null &&
    typeof (entry as Delivery).listener === "string" &&
    /^[1-9]\d{0,18}$/.test((entry as Delivery).event_id);
  if (!Array.isArray(payload) || !payload.every(isDelivery)) {
    throw new JobError(
      'deliver_incentive_completed expects [{"listener": "<name>", "event_id": "<id>"}, …]',
    );
  }
  return payload;
}
