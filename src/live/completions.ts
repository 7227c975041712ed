/**
 * Tells each client of this process what its member has completed: every event once, in order, also across a lost connection
 * and a restarted server. Called by whatever serves clients (src/api). One question to the database serves all clients; it is
 * asked when a NOTIFY is heard, when the listening connection is there again, and every few seconds, because a NOTIFY is a
 * wake-up and may be lost, doubled or forged. What it answers is decided by the table (migration live-completions).
 */
import type { EventEmitter } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { Pool, QueryConfig } from "pg";
import { errorClass } from "../error_class.ts";
import type { Logger } from "../logger.ts";
import { decodeCursor, encodeCursor } from "./cursor.ts";
import { Feed } from "./feed.ts";
import type { Completion } from "./feed.ts";
import type { Heard } from "./subscriber.ts";

const ASK_EVERY_MS = 3000;
/** However many wake-ups there are, the database has this rest between two questions. */
const REST_MS = 20;
const ASK_AGAIN_AFTER_MS = 250;
const ANSWER_WITHIN_MS = 5000;

export interface CompletionsOptions {
  /** Connects as the authenticator. Best one of its own, so that no request is in its way. */
  pool: Pool;
  /** The process's LiveSubscriber. */
  subscriber: EventEmitter<Heard>;
  logger: Logger;
}

interface Event {
  position: string;
  event_id: string | null;
  user_incentive_id: string;
  occurred_at: Date;
}

type HeardEvent = Event & { since: string; user_id: string };

export class Completions {
  readonly #options: CompletionsOptions;
  /** Of each client, the position it has been told everything up to; undefined until the first answer. */
  readonly #feeds = new Map<Feed, string | undefined>();
  #position: string | undefined;
  #isDue = false;
  #asking: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopping = new AbortController();

  constructor(options: CompletionsOptions) {
    this.#options = options;
  }

  start(): void {
    this.#options.subscriber.on("completed", this.#wake);
    this.#options.subscriber.on("connected", this.#wake);
    this.#timer = setInterval(this.#wake, ASK_EVERY_MS);
    this.#wake();
  }

  /** Ends every feed. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#options.subscriber.off("completed", this.#wake);
    this.#options.subscriber.off("connected", this.#wake);
    this.#stopping.abort();
    for (const feed of this.#feeds.keys()) feed.end();
    await this.#asking;
  }

  /** This member's events from now on; rather one of the moments before than to miss one. */
  follow(userId: string): Feed {
    return this.#add(userId, this.#position);
  }

  /** To go on from now by another connection; undefined before the database has answered at all. */
  cursor(): string | undefined {
    return this.#position && encodeCursor({ position: this.#position, pending: [] });
  }

  /**
   * This member's events after `cursor`, those of the past and then those to come. Undefined when the cursor is not one of
   * ours. Throws when the database is away.
   */
  async resume(userId: string, cursor: string): Promise<Feed | undefined> {
    const after = decodeCursor(cursor);
    if (!after) return undefined;
    const events = await this.#ask<Event>("select * from api.read_missed_completions($1, $2, $3)", [
      userId,
      after.position,
      after.pending,
    ]);
    const feed = this.#add(userId, events[0]?.position);
    pushAll(feed, events);
    this.#wake();
    return feed;
  }

  #add(userId: string, since: string | undefined): Feed {
    const feed = new Feed(userId, (ended) => this.#feeds.delete(ended));
    if (this.#stopping.signal.aborted) feed.end();
    else this.#feeds.set(feed, since);
    return feed;
  }

  readonly #wake = (): void => {
    this.#isDue = true;
    this.#asking ??= this.#askWhileDue();
  };

  async #askWhileDue(): Promise<void> {
    const { signal } = this.#stopping;
    let isAway = false;
    while (this.#isDue && !signal.aborted) {
      this.#isDue = false;
      try {
        await this.#tellWhatCame();
        isAway = false;
      } catch (error) {
        if (!isAway) this.#options.logger.warn({ error: errorClass(error) }, "events unread");
        isAway = true;
        this.#isDue = true;
      }
      await sleep(isAway ? ASK_AGAIN_AFTER_MS : REST_MS, undefined, { signal }).catch(() => {});
    }
    // In one go with the last look at what is due, so that no wake-up falls in between.
    this.#asking = undefined;
  }

  async #tellWhatCame(): Promise<void> {
    const asked = [...this.#feeds];
    const positions = new Set(
      asked.map(([, since]) => since).filter((since) => since !== undefined),
    );
    const members = new Set(asked.map(([{ userId }]) => userId));
    const events = await this.#ask<HeardEvent>("select * from api.read_completions($1, $2)", [
      [...positions],
      [...members],
    ]);
    // Nobody can have been told anything in between: one question at a time.
    this.#position = events[0]?.position;
    const heard = Map.groupBy(events, ({ since, user_id }) => `${since} ${user_id}`);
    for (const [feed, since] of asked) {
      if (feed.hasEnded) continue;
      this.#feeds.set(feed, this.#position);
      pushAll(feed, heard.get(`${since} ${feed.userId}`) ?? []);
    }
    // Who came while we asked has not been told what came with the answer.
    if ([...this.#feeds.values()].some((since) => since !== this.#position)) this.#isDue = true;
  }

  async #ask<Row extends Event>(text: string, values: unknown[]): Promise<Row[]> {
    // Over a connection that swallows everything there is no answer and no error either.
    const query: QueryConfig & { query_timeout: number } = {
      text,
      values,
      query_timeout: ANSWER_WITHIN_MS,
    };
    return (await this.#options.pool.query<Row>(query)).rows;
  }
}

/** After each event those behind it are still pending. */
function pushAll(feed: Feed, rows: Event[]): void {
  const events = rows.filter(({ event_id }) => event_id !== null);
  const ids = events.map(({ event_id }) => String(event_id));
  for (const [at, { position, user_incentive_id, occurred_at }] of events.entries()) {
    const completion: Completion = {
      id: ids[at] ?? "",
      userIncentiveId: user_incentive_id,
      occurredAt: occurred_at,
      cursor: encodeCursor({ position, pending: ids.slice(at + 1) }),
    };
    feed.push(completion);
  }
}
