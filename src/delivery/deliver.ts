/**
 * Calls a listener for each of some events, ten at a time, and says on which it failed. Called by the two tasks: for what is
 * new, and for what failed before.
 */
import type { Pool } from "pg";
import { errorClass } from "../error_class.ts";
import { JobError } from "../job_error.ts";
import type { Logger } from "../logger.ts";
import { countDelivery } from "../metrics/registry.ts";
import type { IncentiveCompleted, IncentiveCompletedListener } from "./listener.ts";
import type { ListenerRegistry } from "./registry.ts";
import type { Turns } from "./turns.ts";

export interface Delivery {
  listener: string;
  event_id: string;
}

export interface DeliveryOptions {
  registry: ListenerRegistry;
  pool: Pool;
  logger: Logger;
  /** Aborted when the time that stopping may take is over: all calls end. */
  outOfTime: AbortSignal;
  /** How many events a job hands to its listener at the same time. */
  atOnce: number;
  /** How long one call may take, in milliseconds. */
  timeoutMs: number;
  /** How long to begin new calls, in milliseconds: a listener that takes its time must not keep a job's place for hours. */
  beginForMs: number;
  turns: Turns;
}

/** What app.read_completions answers: columns, whose values at one place belong together. */
export interface Completions {
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

export interface Outcome {
  /** The places, among the deliveries, of those that failed, with the reason: a JobError. */
  failed: Map<number, unknown>;
  /** Those that there was no time for. Never all of them. */
  untold: Delivery[];
}

/** Never rejects. */
export async function deliver(
  options: DeliveryOptions,
  deliveries: Delivery[],
  completions: Completions,
): Promise<Outcome> {
  const events = readEvents(completions);
  const active = new Set(completions.active_listeners);
  const calls = new Calls(options);
  const failed = new Map<number, unknown>();
  const waiting = deliveries.entries();
  const deadline = Date.now() + options.beginForMs;
  // Some at a time, each as soon as another is done.
  const goOn = async (): Promise<void> => {
    while (Date.now() < deadline) {
      const next = waiting.next();
      if (next.done) return;
      const [place, { listener, event_id }] = next.value;
      const event = active.has(listener) ? events.get(event_id) : undefined;
      await calls
        .deliver(listener, event_id, event)
        .catch((error: unknown) => failed.set(place, error));
    }
  };
  await Promise.all(Array.from({ length: options.atOnce }, goOn));
  calls.close();
  return { failed, untold: Array.from(waiting, ([, delivery]) => delivery) };
}

function readEvents(of: Completions): Map<string, IncentiveCompleted> {
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
  return events;
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
    options.outOfTime.addEventListener("abort", this.#abortAll);
  }

  close(): void {
    this.#options.outOfTime.removeEventListener("abort", this.#abortAll);
  }

  #loggerOf({ name }: IncentiveCompletedListener): Logger {
    const known = this.#loggers.get(name) ?? this.#options.logger.child({ listener: name });
    this.#loggers.set(name, known);
    return known;
  }

  /** Of no event when it was erased since, or the listener switched off: there is nothing to tell, or nobody to tell it. */
  async deliver(listener: string, eventId: string, event?: IncentiveCompleted): Promise<void> {
    const { registry, logger } = this.#options;
    const adapter = registry.get(listener);
    if (!event) {
      logger.info({ listener, eventId }, "delivery no longer wanted");
      countDelivery(nameForMetrics(listener, registry), "not_wanted");
    } else if (!adapter) {
      countDelivery(nameForMetrics(listener, registry), "failed");
      throw new JobError(`event ${eventId}: no adapter src/listeners/${listener}.ts`);
    } else {
      await this.#call(adapter, event);
    }
  }

  async #call(adapter: IncentiveCompletedListener, event: IncentiveCompleted): Promise<void> {
    const { timeoutMs, outOfTime } = this.#options;
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
    try {
      outOfTime.throwIfAborted();
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
