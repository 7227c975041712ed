/**
 * Refused tokens of each address in this minute, over HTTP and WebSocket alike: who tries tokens out is stopped before another
 * is looked at. Called by rate_limits.ts for the header, and by graphql/socket.ts for what a WebSocket says first. Whoever has
 * a token that this process knows is not asked about.
 */
import type { IncomingMessage } from "node:http";
import { RateLimiterMemory } from "rate-limiter-flexible";
import { clientAddress } from "./client_address.ts";
import { keyOf } from "./shared_rates.ts";

export class FailedTokens {
  readonly atMost: number;
  readonly #trustedProxies: number;
  readonly #limiter: RateLimiterMemory | undefined;

  /** `atMost` in a minute; 0: as many as they like. */
  constructor(atMost: number, trustedProxies: number) {
    this.atMost = atMost;
    this.#trustedProxies = trustedProxies;
    this.#limiter =
      atMost > 0 ? new RateLimiterMemory({ points: atMost, duration: 60 }) : undefined;
  }

  /** Under what this request's address is counted now. Taken while the client is there: later it has no address. */
  keyOf(request: IncomingMessage): string {
    return keyOf(Math.floor(Date.now() / 60_000), clientAddress(request, this.#trustedProxies));
  }

  async areTooMany(key: string): Promise<boolean> {
    const counted = await this.#limiter?.get(key);
    return counted != null && counted.consumedPoints >= this.atMost;
  }

  count(key: string): void {
    void this.#limiter?.penalty(key);
  }
}
