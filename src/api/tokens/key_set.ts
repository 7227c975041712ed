/**
 * The keys that an issuer of tokens publishes (a JWKS URL): fetched when they are first needed, again every few minutes, and
 * when a token names a key that is not among them. Used by tokens.ts. While the URL does not answer the keys that are known
 * go on being used, for a day; whether a key that is not known is good cannot be told then, which is a 503 and not a 401.
 */
import { createRemoteJWKSet, errors } from "jose";
import type { JWTVerifyGetKey } from "jose";
import { errorClass } from "../../error_class.ts";
import type { Logger } from "../../logger.ts";
import { Problem } from "../problems.ts";

export interface KeySetOptions {
  url: string;
  /** What tokens may be signed with, such as RS256. */
  algorithms: string[];
  logger: Logger;
  /** How old the keys get before they are fetched again, in the background. */
  renewAfterMs?: number;
  /** How soon an unknown key may have them fetched again. */
  pauseMs?: number;
  /** How old they may be. */
  trustForMs?: number;
}

export class KeySet {
  readonly algorithms: string[];
  readonly #remote: ReturnType<typeof createRemoteJWKSet>;
  readonly #logger: Logger;
  readonly #renewAfterMs: number;
  readonly #pauseMs: number;
  readonly #trustForMs: number;
  #edition = 0;
  #text = "";
  #fetchedAt = Number.NEGATIVE_INFINITY;
  #triedAt = Number.NEGATIVE_INFINITY;

  constructor(options: KeySetOptions) {
    const { url, algorithms, logger } = options;
    this.algorithms = algorithms;
    this.#logger = logger;
    this.#renewAfterMs = options.renewAfterMs ?? 5 * 60_000;
    this.#pauseMs = options.pauseMs ?? 5000;
    this.#trustForMs = options.trustForMs ?? 24 * 3_600_000;
    // When to fetch is decided here: the library would refuse every key while the URL is away.
    this.#remote = createRemoteJWKSet(new URL(url), {
      cacheMaxAge: Number.POSITIVE_INFINITY,
      cooldownDuration: Number.POSITIVE_INFINITY,
      timeoutDuration: 5000,
    });
  }

  /** Another number whenever the keys have changed; undefined: there are none that can be relied on. */
  get edition(): number | undefined {
    const age = Date.now() - this.#fetchedAt;
    if (age > this.#renewAfterMs && !this.#remote.reloading && this.#mayTry())
      this.#fetch().catch(() => {});
    return age > this.#trustForMs ? undefined : this.#edition;
  }

  /** The key a token's header names, for jose. Throws its errors, or a 503 `Problem`. */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    if (this.edition === undefined) await this.#fetchOrRefuse();
    try {
      return await this.#remote(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      await this.#fetchOrRefuse();
      return this.#remote(header, token);
    }
  };

  #mayTry(): boolean {
    return this.#remote.reloading || Date.now() - this.#triedAt >= this.#pauseMs;
  }

  /** Returns with keys that are as new as can be had without asking the issuer for each token that is made up. */
  async #fetchOrRefuse(): Promise<void> {
    if (this.#mayTry()) await this.#fetch();
    else if (this.#fetchedAt < this.#triedAt) throw keysAway();
  }

  async #fetch(): Promise<void> {
    if (!this.#remote.reloading) this.#triedAt = Date.now();
    try {
      await this.#remote.reload();
    } catch (error) {
      this.#logger.warn({ error: errorClass(error) }, "the issuer's keys cannot be fetched");
      throw keysAway();
    }
    this.#fetchedAt = Date.now();
    const text = JSON.stringify(this.#remote.jwks());
    if (text !== this.#text) this.#edition++;
    this.#text = text;
  }
}

const keysAway = (): Problem =>
  new Problem(
    503,
    "Unavailable",
    "The keys that tokens are signed with cannot be fetched. Try again in a moment.",
  );
