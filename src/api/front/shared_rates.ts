/**
 * Makes a rate limit one limit over all API processes: once a second this process says what its busy clients asked of it, and
 * learns what they asked of the others. Used by rate_limits.ts. A request never waits for it, and while the database is away
 * each process counts by itself. Clients who use little of their limit are not spoken of, so that most of the time nothing
 * is asked.
 */
import { createHash } from "node:crypto";
import type { Pool } from "pg";
import type { RateLimiterMemory } from "rate-limiter-flexible";
import { errorClass } from "../../error_class.ts";
import type { Logger } from "../../logger.ts";

const everyMs = 1000;
/** Who has used less of their limit here than this part is not spoken of. */
const busyFrom = 0.1;

interface Busy {
  limiter: RateLimiterMemory;
  key: string;
  /** What they asked here, how much of it was told, and what they asked elsewhere. */
  here: number;
  told: number;
  elsewhere: number;
}

export class SharedRates {
  readonly #pool: Pool;
  readonly #logger: Logger;
  readonly #timer: NodeJS.Timeout;
  #minute = 0;
  #busy = new Map<string, Busy>();
  #isSharing = false;

  /** `pool` connects as the authenticator. */
  constructor(pool: Pool, logger: Logger) {
    this.#pool = pool;
    this.#logger = logger;
    this.#timer = setInterval(() => void this.#share(), everyMs).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** `consumed`: what `key` has used of its limit in this minute, with this request. */
  note(limiter: RateLimiterMemory, key: string, minute: number, consumed: number): void {
    if (consumed < limiter.points * busyFrom) return;
    if (minute !== this.#minute) {
      this.#minute = minute;
      this.#busy = new Map();
    }
    const known = this.#busy.get(key);
    if (known) known.here += 1;
    else this.#busy.set(key, { limiter, key, here: consumed, told: 0, elsewhere: 0 });
  }

  async #share(): Promise<void> {
    const minute = this.#minute;
    const news = [...this.#busy.values()].filter(({ here, told }) => here > told);
    if (this.#isSharing || news.length === 0) return;
    this.#isSharing = true;
    const byClient = new Map(news.map((busy) => [hash(busy.key), { busy, here: busy.here }]));
    try {
      const { rows } = await this.#pool.query<{ client: string; requests: string }>(
        "select client, requests from api.share_request_counts($1, $2, $3)",
        [minute, [...byClient.keys()], news.map(({ here, told }) => here - told)],
      );
      for (const { client, requests } of rows) {
        const found = byClient.get(client);
        if (!found) continue;
        const { busy, here } = found;
        busy.told = here;
        const elsewhere = Number(requests) - here;
        // The counts of a minute that is over do no harm: nobody asks for their key again.
        await busy.limiter.penalty(keyOf(minute, busy.key), elsewhere - busy.elsewhere);
        busy.elsewhere = elsewhere;
      }
    } catch (error) {
      this.#logger.debug({ error: errorClass(error) }, "request counts could not be shared");
    } finally {
      this.#isSharing = false;
    }
  }
}

/** Under what a limiter counts a client in a minute. */
export function keyOf(minute: number, client: string): string {
  return `${minute} ${client}`;
}

/** Members and addresses are nothing to leave lying about. */
function hash(client: string): string {
  return createHash("sha256").update(client).digest("base64url").slice(0, 22);
}
