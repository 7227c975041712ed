/**
 * Tokens that were taken back (db: app.token_revocations): kept in memory by each API process, read anew when it is told to and
 * whenever its listening connection comes back. Checked by tokens.ts for every request, so it asks the database nothing then.
 */
import type { Pool } from "pg";
import { errorClass } from "../../error_class.ts";
import type { LiveSubscriber } from "../../live/subscriber.ts";
import type { Logger } from "../../logger.ts";
import { databaseAway, unauthenticated } from "../problems.ts";
import { aheadAtMost } from "./tokens.ts";

const TRY_AGAIN_AFTER_MS = 1000;

export class Revocations {
  readonly #pool: Pool;
  readonly #logger: Logger;
  /** In seconds since 1970, by member; undefined until they were first read. */
  #issuedBefore: ReadonlyMap<string, number> | undefined;
  #reading: Promise<void> | undefined;
  #again = false;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  /** `pool` connects as the authenticator. */
  constructor(pool: Pool, logger: Logger) {
    this.#pool = pool;
    this.#logger = logger;
  }

  /** Resolves after the first attempt to read them. Until one succeeds, `check` refuses everybody. */
  async start(subscriber: LiveSubscriber): Promise<void> {
    subscriber.on("connected", () => void this.#read());
    // A revocation tells everybody, and so does little else.
    subscriber.on("changed", (who) => {
      if (who === "all") void this.#read();
    });
    await this.#read();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#reading;
  }

  isKnown(): boolean {
    return this.#issuedBefore !== undefined;
  }

  /** Throws a 401 `Problem` when tokens of that time are not accepted any more, a 503 one when that is not known yet. */
  check(userId: string, issuedAt: number | undefined): void {
    if (!this.#issuedBefore) throw databaseAway();
    const issuedBefore = this.#issuedBefore.get(userId);
    if (issuedBefore === undefined) return;
    if (issuedAt === undefined) {
      throw unauthenticated("The token must say when it was issued (`iat`).");
    }
    // Issued before it by a clock that is ahead; so who gets a new one in these seconds needs another.
    if (issuedAt <= issuedBefore + aheadAtMost)
      throw unauthenticated("The token has been revoked.");
  }

  /** What is said while it reads may be too late for that answer, so then it reads once more. */
  #read(): Promise<void> {
    if (this.#reading) this.#again = true;
    this.#reading ??= this.#readUntilNew().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #readUntilNew(): Promise<void> {
    clearTimeout(this.#timer);
    do {
      this.#again = false;
      try {
        const { rows } = await this.#pool.query<{ user_id: string; issued_before: number }>(
          "select user_id, issued_before from api.read_token_revocations()",
        );
        this.#issuedBefore = new Map(rows.map((row) => [row.user_id, row.issued_before]));
      } catch (error) {
        this.#logger.warn({ error: errorClass(error) }, "revoked tokens cannot be read");
        if (!this.#stopped) {
          this.#timer = setTimeout(() => void this.#read(), TRY_AGAIN_AFTER_MS).unref();
        }
      }
    } while (this.#again && !this.#stopped);
  }
}

/** Has every token of this member that was issued before now refused. `pool` connects as the owner. */
export async function revokeTokens(pool: Pool, userId: string): Promise<void> {
  await pool.query("select app.revoke_tokens($1)", [userId]);
}
