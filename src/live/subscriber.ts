/**
 * The process's one listening connection (pg-listen), made to survive: it tries again without end, proves by a round trip
 * to itself every few seconds that it hears, and is rebuilt when it does not. NOTIFY is a wake-up: whoever is told here
 * reads the table, also each time the connection comes back, because what was said in between is gone.
 */
import { randomUUID } from "node:crypto";
import { EventEmitter } from "node:events";
import { Socket } from "node:net";
import pgListen from "pg-listen";
import type { Subscriber } from "pg-listen";
import { errorClass } from "../error_class.ts";
import type { Logger } from "../logger.ts";

const HEARTBEAT = "incentives_heartbeat";
const BEAT_EVERY_MS = 3000;
const DEAF_AFTER_MS = 10_000;
const CONNECT_WITHIN_MS = 5000;

/**
 * `connected` comes first and after each gap; `lost` begins a gap: what is said from now on is not heard. `completed` carries
 * the range of event ids to read. `changing` says who is about to be judged, `changed` who sees something else than before:
 * hashes of member ids, or everybody.
 */
export interface Heard {
  connected: [];
  lost: [];
  completed: [{ first: string; last: string }];
  changing: [readonly string[]];
  changed: [readonly string[] | "all"];
}

export class LiveSubscriber extends EventEmitter<Heard> {
  readonly #connectionString: string;
  readonly #logger: Logger;
  /** Our own heartbeat is told from other processes' by this. */
  readonly #self = randomUUID();
  #subscriber: Subscriber | undefined;
  /** Those of its connection, and of one that is being made. */
  #sockets = new Set<Socket>();
  /** Whose heartbeat is on its way. */
  #saying: Subscriber | undefined;
  #heardAt = 0;
  #isListening = false;
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

  /** Whether it is connected and has heard itself within the last seconds. */
  isHearing(): boolean {
    return this.#isListening && this.#heardLately();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#lose();
    const subscriber = this.#subscriber;
    this.#subscriber = undefined;
    if (subscriber) this.#discard(subscriber);
  }

  #build(): void {
    const createSubscriber = pgListen.default;
    const sockets = new Set<Socket>();
    this.#sockets = sockets;
    // Of a subscriber that was replaced nothing is heard any more.
    const isCurrent = (): boolean => this.#subscriber === subscriber;
    const subscriber = createSubscriber(
      {
        connectionString: this.#connectionString,
        application_name: "incentives live",
        // What it says itself, that it lives and that it has heard, need not be on disk.
        options: "-c synchronous_commit=off",
        connectionTimeoutMillis: CONNECT_WITHIN_MS,
        keepAlive: true,
        stream: () => keepSocket(sockets),
      },
      {
        retryInterval(attempt) {
          // The library cannot be told to stop trying; what is thrown here ends it.
          if (!isCurrent()) throw new Error("discarded");
          return Math.min(100 * 2 ** attempt, 2000);
        },
        retryLimit: Number.MAX_SAFE_INTEGER,
        retryTimeout: Number.POSITIVE_INFINITY,
        paranoidChecking: false,
        // Anybody who can log in can NOTIFY: nothing that arrives may throw, so each channel reads its own text below.
        parse: (text) => text,
        serialize: String,
      },
    );
    this.#subscriber = subscriber;
    subscriber.notifications.on(HEARTBEAT, (payload: unknown) => {
      if (isCurrent() && payload === this.#self) this.#hear();
    });
    subscriber.notifications.on("incentive_completed", (payload: unknown) => {
      const range = parseRange(payload);
      if (isCurrent() && range) this.emit("completed", range);
    });
    subscriber.notifications.on("member_changed", (payload: unknown) => {
      if (!isCurrent() || typeof payload !== "string") return;
      const [, token, hashes = ""] = /^(?:~([\w-]{1,40}) )?(.*)$/.exec(payload) ?? [];
      const members = parseHashes(hashes);
      if (payload === "*") this.emit("changed", "all");
      else if (members) this.emit(token ? "changing" : "changed", members);
      // Who judges them waits for it: from here on nothing old is answered.
      if (token) subscriber.notify("members_heard", token).catch(() => {});
    });
    subscriber.events.on("reconnect", () => {
      if (!isCurrent()) return;
      this.#lose();
      // Otherwise the library sends a LISTEN for each at once, which pg will not take for much longer; see #listen.
      subscriber.unlistenAll().catch(() => {});
    });
    subscriber.events.on("connected", () => {
      if (isCurrent()) void this.#listen(subscriber);
      else for (const socket of sockets) socket.destroy();
    });
    subscriber.events.on("error", (error) => {
      if (isCurrent())
        this.#logger.warn({ error: errorClass(error) }, "listening connection failed");
    });
    // A first failure is tried again by the library, as every later one.
    subscriber.connect().catch(() => {});
  }

  async #listen(subscriber: Subscriber): Promise<void> {
    try {
      await subscriber.listenTo(HEARTBEAT);
      await subscriber.listenTo("member_changed");
      await subscriber.listenTo("incentive_completed");
      if (this.#subscriber !== subscriber) return;
      this.#isListening = true;
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

  #heardLately(): boolean {
    return Date.now() - this.#heardAt < DEAF_AFTER_MS;
  }

  #lose(): void {
    this.#isListening = false;
    this.emit("lost");
  }

  #beat(): void {
    const subscriber = this.#subscriber;
    if (!subscriber) return;
    const channels = subscriber.getSubscribedChannels();
    if (this.#heardAt > 0 && !this.#heardLately()) this.#rebuild(subscriber);
    else if (channels.includes(HEARTBEAT)) this.#say(subscriber);
  }

  /** One at a time: through a connection that swallows everything the first is never answered. */
  #say(subscriber: Subscriber): void {
    if (this.#saying === subscriber) return;
    this.#saying = subscriber;
    const said = (): void => {
      if (this.#saying === subscriber) this.#saying = undefined;
    };
    subscriber.notify(HEARTBEAT, this.#self).then(said, said);
  }

  #rebuild(deaf: Subscriber): void {
    this.#logger.warn("listening connection does not hear itself; building another");
    this.#lose();
    // Not deaf again before it can be there.
    this.#heardAt = Date.now() - DEAF_AFTER_MS + CONNECT_WITHIN_MS + BEAT_EVERY_MS;
    this.#discard(deaf);
    this.#build();
  }

  /** Also one that is just trying again: `close` alone would leave it a connection, or trying for ever. */
  #discard(subscriber: Subscriber): void {
    subscriber.close().catch(() => {});
    // A goodbye through a connection that swallows everything would be waited for until the kernel gives up.
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** Both are undefined when it says nothing we know. */
function parseRange(payload: unknown): { first: string; last: string } | undefined {
  try {
    const { first, last } = JSON.parse(String(payload)) as { first?: unknown; last?: unknown };
    if (!Number.isSafeInteger(first) || !Number.isSafeInteger(last)) return undefined;
    return { first: String(first), last: String(last) };
  } catch {
    return undefined;
  }
}

function parseHashes(text: string): readonly string[] | undefined {
  return /^(?:[A-Za-z0-9+/]{4})+$/.test(text) ? (text.match(/.{4}/g) ?? undefined) : undefined;
}

/** pg makes no other way to its socket. */
function keepSocket(sockets: Set<Socket>): Socket {
  const socket = new Socket();
  sockets.add(socket);
  socket.once("close", () => sockets.delete(socket));
  return socket;
}
