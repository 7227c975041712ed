/**
 * How much one client may ask in a minute: in the chain before anything is answered, also from memory, so it waits for no database.
 * Whoever has a token that this process knows counts as its member, wherever they are; all others count by their address,
 * so that strangers do not lock out the members behind the same one. Failed tokens have a smaller limit (failed_tokens.ts).
 */
import type { ServerResponse } from "node:http";
import { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible";
import type { Handler } from "./chain.ts";
import { clientAddress } from "./client_address.ts";
import type { FailedTokens } from "./failed_tokens.ts";
import { Problem } from "../problems.ts";
import { keyOf } from "./shared_rates.ts";
import type { SharedRates } from "./shared_rates.ts";
import type { Tokens } from "../tokens/tokens.ts";

/** Requests in a minute; 0: as many as they like. */
export interface RateLimits {
  perMember: number;
  perAddress: number;
  failuresPerAddress: number;
  /** How many proxies stand in front of this process. */
  trustedProxies: number;
}

export function limitRates(
  limits: RateLimits,
  tokens: Tokens,
  shared: SharedRates,
  failedTokens: FailedTokens,
): Handler {
  const { perMember, perAddress, trustedProxies } = limits;
  const members = createLimiter(perMember);
  const addresses = createLimiter(perAddress);
  return async (request, response, next) => {
    const known = tokens.recall(request.headers.authorization);
    const limiter = known ? members : addresses;
    const client = known ? `${known.role} ${known.userId}` : clientAddress(request, trustedProxies);
    const minute = Math.floor(Date.now() / 60_000);
    const key = keyOf(minute, client);
    if (!known) {
      const failed = failedTokens.keyOf(request);
      if (await failedTokens.areTooMany(failed)) {
        return next(tooMany(response, failedTokens.atMost));
      }
      response.once("finish", () => {
        if (response.statusCode === 401) failedTokens.count(failed);
      });
    }
    try {
      const used = limiter && (await limiter.consume(key));
      if (used) shared.note(limiter, client, minute, used.consumedPoints);
    } catch (refused) {
      if (!(refused instanceof RateLimiterRes)) throw refused;
      return next(tooMany(response, known ? perMember : perAddress));
    }
    next();
  };
}

function createLimiter(points: number): RateLimiterMemory | undefined {
  return points > 0 ? new RateLimiterMemory({ points, duration: 60 }) : undefined;
}

/** Until the clock's next minute, which is the same for all processes. */
function tooMany(response: ServerResponse, limit: number): Problem {
  const seconds = secondsToNextMinute();
  response.setHeader("Retry-After", seconds);
  response.setHeader("RateLimit-Policy", `"minute";q=${limit};w=60`);
  response.setHeader("RateLimit", `"minute";r=0;t=${seconds}`);
  return tooManyRequests();
}

export const tooManyRequests = (): Problem =>
  new Problem(
    429,
    "Too many requests",
    `More was asked than one client may in a minute. Try again in ${secondsToNextMinute()} s.`,
  );

function secondsToNextMinute(): number {
  return 60 - (Math.floor(Date.now() / 1000) % 60);
}
