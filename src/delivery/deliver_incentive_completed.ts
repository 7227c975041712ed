/**
 * The task `deliver_incentive_completed`: calls a listener for each event in the job. The payload is an array and the answer has
 * a place for each of its entries, so that the library keeps and retries only those that failed.
 */
import type { Task } from "graphile-worker";
import type { Pool } from "pg";
import { JobError } from "../job_error.ts";
import { errorClass } from "../error_class.ts";
import type { Logger } from "../logger.ts";
import { countDelivery } from "../metrics/registry.ts";
import type { IncentiveCompleted, IncentiveCompletedListener } from "./listener.ts";
import type { ListenerRegistry } from "./registry.ts";

interface Delivery {
  listener: string;
  event_id: string;
}

declare global {
  namespace GraphileWorker {
    interface Tasks {
      deliver_incentive_completed: Delivery[];
    }
  }
}

export interface DeliveryOptions {
  registry: ListenerRegistry;
  pool: Pool;
  logger: Logger;
  stopping: AbortSignal;
  /** How many events a job hands to its listener at the same time. */
  atOnce: number;
  /** How long one call may take, in milliseconds. */
  timeoutMs: number;
}

export const deliveryDefaults = { atOnce: 10, timeoutMs: 30_000 } as const;

export function deliverIncentiveCompleted(
  options: DeliveryOptions,
): Task<"deliver_incentive_completed"> {
  return async (payload) => {
    const deliveries = checkPayload(payload);
    const ids = deliveries.map(({ event_id }) => event_id);
    const { events, active } = await readEventsAndListeners(options.pool, ids);
    const calls = new Calls(options);
    const deliver = async ({ listener, event_id }: Delivery): Promise<void> => {
      const event = events.get(event_id);
      if (!event || !active.has(listener)) {
        // Erased since, or switched off since: there is nobody to tell, or nothing to tell of.
        options.logger.info({ listener, eventId: event_id }, "delivery no longer wanted");
        countDelivery(nameForMetrics(listener, options.registry), "not_wanted");
        return;
      }
      const adapter = options.registry.get(listener);
      if (!adapter) {
        countDelivery(nameForMetrics(listener, options.registry), "failed");
        throw new JobError(`event ${event_id}: no adapter src/listeners/${listener}.ts`);
      }
      await calls.call(adapter, event);
    };
    try {
      return await settleAll(deliveries, options.atOnce, deliver);
    } finally {
      calls.close();
    }
  };
}

/** Some at a time, each as soon as another is done. Returns an answer for each: nothing, or a promise that was rejected. */
async function settleAll<T>(
  entries: T[],
  atOnce: number,
  work: (entry: T) => Promise<void>,
): Promise<(Promise<never> | undefined)[]> {
  const failed = new Map<number, unknown>();
  const waiting = entries.entries();
  const goOn = async (): Promise<void> => {
    for (const [index, entry] of waiting) {
      await work(entry).catch((error: unknown) => failed.set(index, error));
    }
  };
  await Promise.all(Array.from({ length: atOnce }, goOn));
  return entries.map((_, index) =>
    failed.has(index) ? Promise.reject(failed.get(index) as Error) : undefined,
  );
}

/** The calls of one job. Each can be ended by itself, and all of them when the process stops. */
class Calls {
  readonly #options: DeliveryOptions;
  readonly #underWay = new Set<() => void>();
  readonly #loggers = new Map<string, Logger>();
  readonly #abortAll = (): void => {
    for (const abort of this.#underWay) abort();
  };

  constructor(options: DeliveryOptions) {
    this.#options = options;
    // One for all: a signal made of others for each of a thousand calls costs more than the calls.
    options.stopping.addEventListener("abort", this.#abortAll);
  }

  close(): void {
    this.#options.stopping.removeEventListener("abort", this.#abortAll);
  }

  #loggerOf({ name }: IncentiveCompletedListener): Logger {
    const known = this.#loggers.get(name) ?? this.#options.logger.child({ listener: name });
    this.#loggers.set(name, known);
    return known;
  }

  async call(adapter: IncentiveCompletedListener, event: IncentiveCompleted): Promise<void> {
    const { timeoutMs, stopping } = this.#options;
    const logger = this.#loggerOf(adapter);
    const call = new AbortController();
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const abort = (): void => {
      call.abort();
      reject(call.signal.reason as Error);
    };
    aborted.catch(() => {}); // A listener that throws at once leaves nobody who waits for it.
    const timer = setTimeout(abort, timeoutMs);
    this.#underWay.add(abort);
    if (stopping.aborted) abort();
    try {
      await Promise.race([adapter.handle(event, { signal: call.signal, logger }), aborted]);
      countDelivery(adapter.name, "delivered");
    } catch (error) {
      const reason = errorClass(error);
      countDelivery(adapter.name, "failed");
      logger.warn({ eventId: event.id, error: reason }, "delivery failed");
      throw new JobError(`event ${event.id}, listener ${adapter.name}: ${reason}`);
    } finally {
      clearTimeout(timer);
      this.#underWay.delete(abort);
    }
  }
}

/** A job may name anybody; only names of adapters become labels. */
function nameForMetrics(listener: string, registry: ListenerRegistry): string {
  return registry.has(listener) ? listener : "unknown";
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

interface EventsAndListeners {
  /** By their ids, as far as there is still something to tell of. */
  events: Map<string, IncentiveCompleted>;
  active: Set<string>;
}

/** What app.read_completions answers: columns, whose values at one place belong together. */
interface Completions {
  ids: string[];
  user_incentive_ids: string[];
  user_ids: string[];
  incentives: string[];
  /** In milliseconds since 1970. */
  occurred_at: number[];
  /** Its key; null when the event won nothing. */
  rewards: (string | null)[];
  kinds: string[];
  amounts: string[];
  units: string[];
  active_listeners: string[];
}

/** In one question, because a job may have three thousand events. */
async function readEventsAndListeners(pool: Pool, ids: string[]): Promise<EventsAndListeners> {
  const { rows } = await pool.query<{ completions: Completions }>({
    name: "read_completions",
    text: "select app.read_completions($1::bigint[]) as completions",
    values: [`{${ids.join(",")}}`],
  });
  const [{ completions: of }] = rows as [{ completions: Completions }];
  const events = new Map<string, IncentiveCompleted>();
  for (const [place, id] of of.ids.entries()) {
    const event = events.get(id) ?? {
      id,
      userIncentiveId: of.user_incentive_ids[place]!,
      userId: of.user_ids[place]!,
      incentive: of.incentives[place]!,
      occurredAt: new Date(of.occurred_at[place]!),
      rewards: [],
    };
    events.set(id, event);
    const key = of.rewards[place];
    if (key) {
      const [kind, amount, unit] = [of.kinds[place]!, of.amounts[place]!, of.units[place]!];
      event.rewards.push({ key, kind, amount, unit });
    }
  }
  return { events, active: new Set(of.active_listeners) };
}
