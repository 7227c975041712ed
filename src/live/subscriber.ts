/**
 * The process's one listening connection (pg-listen), made to survive: it tries again without end, proves by a round trip
 * to itself every few seconds that it hears, and is rebuilt when it does not. NOTIFY is a wake-up: whoever is told here
 * reads the table, also each time the connection comes back, because what was said in between is gone.
 */
import { randomUUID } from "node:crypto";
import { EventEmitter } from "node:events";
import pgListen from "pg-listen";
import type { Subscriber } from "pg-listen";
import { errorClass } from "../error_class.ts";
import type { Logger } from "../logger.ts";

const HEARTBEAT = "incentives_heartbeat";
const BEAT_EVERY_MS = 3000;
const DEAF_AFTER_MS = 10_000;

/** `connected` comes first and after each gap; `completed` carries the range of event ids to read. */
interface Heard {
  connected: [];
  completed: [{ first: string; last: string }];
}

export class LiveSubscriber extends EventEmitter<Heard> {
  readonly #connectionString: string;
  readonly #logger: Logger;
  /** Our own heartbeat is told from other processes' by this. */
  readonly #self = randomUUID();
  #subscriber: Subscriber | undefined;
  #heardAt = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(connectionString: string, logger: Logger) {
    super();
    this.#connectionString = connectionString;
    this.#logger = logger;
  }

  /** Resolves at once; `connected` says when it hears. */
  start(): void {
    this.#build();
    this.#timer = setInterval(() => this.#beat(), BEAT_EVERY_MS);
  }

  /** Whether it has heard itself within the last seconds. */
  isHearing(): boolean {
    return Date.now() - this.#heardAt < DEAF_AFTER_MS;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    const subscriber = this.#subscriber;
    this.#subscriber = undefined;
    await subscriber?.close().catch(() => {});
  }

  #build(): void {
    const createSubscriber = pgListen.default;
    const subscriber = createSubscriber(
      {
        connectionString: this.#connectionString,
        application_name: "incentives live",
        connectionTimeoutMillis: 5000,
        keepAlive: true,
      },
      {
        retryInterval: (attempt) => Math.min(100 * 2 ** attempt, 2000),
        retryLimit: Number.MAX_SAFE_INTEGER,
        retryTimeout: Number.POSITIVE_INFINITY,
        paranoidChecking: false,
        // Anybody who can log in can NOTIFY: nothing that arrives may throw.
        parse: parsePayload,
      },
    );
    this.#subscriber = subscriber;
    // Of a subscriber that was replaced nothing is heard any more.
    const isCurrent = () => this.#subscriber === subscriber;
    subscriber.notifications.on(HEARTBEAT, (payload: unknown) => {
      if (isCurrent() && payload === this.#self) this.#hear();
    });
    subscriber.notifications.on("incentive_completed", (payload: unknown) => {
      if (isCurrent() && isRange(payload)) {
        this.emit("completed", { first: String(payload.first), last: String(payload.last) });
      }
    });
    subscriber.events.on("connected", () => {
      if (isCurrent()) void this.#listen(subscriber);
    });
    subscriber.events.on("error", (error) => {
      this.#logger.warn({ error: errorClass(error) }, "listening connection failed");
    });
    // A first failure is tried again by the library, as every later one.
    subscriber.connect().catch(() => {});
  }

  async #listen(subscriber: Subscriber): Promise<void> {
    try {
      await subscriber.listenTo(HEARTBEAT);
      await subscriber.listenTo("incentive_completed");
      this.#logger.debug("listening connection established");
      this.emit("connected");
      this.#beat();
    } catch {
      // The connection broke again; the library is already making the next.
    }
  }

  #hear(): void {
    this.#heardAt = Date.now();
  }

  #beat(): void {
    const subscriber = this.#subscriber;
    if (!subscriber) return;
    const channels = subscriber.getSubscribedChannels();
    if (this.#heardAt > 0 && !this.isHearing()) this.#rebuild(subscriber);
    else if (channels.includes(HEARTBEAT)) subscriber.notify(HEARTBEAT, this.#self).catch(() => {});
  }

  #rebuild(deaf: Subscriber): void {
    this.#logger.warn("listening connection does not hear itself; building another");
    this.#heardAt = Date.now() - DEAF_AFTER_MS + BEAT_EVERY_MS;
    deaf.close().catch(() => {});
    this.#build();
  }
}

function parsePayload(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isRange(payload: unknown): payload is { first: number; last: number } {
  const range = payload as { first?: unknown; last?: unknown } | null | undefined;
  return Number.isSafeInteger(range?.first) && Number.isSafeInteger(range?.last);
}
