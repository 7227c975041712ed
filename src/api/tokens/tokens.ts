/**
 * Bearer tokens: who is asking. The one place where a token is verified, for REST, GraphQL and whatever else listens; the
 * algorithms are pinned to what is configured. Made by open_tokens.ts, and by the command `token`.
 */
import { errors, jwtVerify, SignJWT } from "jose";
import type { JWTPayload, JWTVerifyOptions } from "jose";
import { LRUCache } from "lru-cache";
import { callerOf, recordsForMembers } from "./claims.ts";
import type { KeySet } from "./key_set.ts";
import { Problem, unauthenticated } from "../problems.ts";

/** Who a request is made by, as its token says. */
export interface Caller {
  userId: string;
  role: "member" | "operator";
  /** When the token expires, in seconds since 1970. */
  expiresAt: number;
  /** A partner's server, which records for members other than itself. */
  actsForMembers: boolean;
}

export interface Tokens {
  /**
   * `authorization` is the header as it came. Throws a 401 `Problem` that says what is wrong with it, or a 503 one when that
   * cannot be told at the moment.
   */
  verify(authorization: string | undefined): Promise<Caller>;
  /** A caller that this process verified before and would verify again, at once; undefined: ask `verify`. */
  recall(authorization: string | undefined): Caller | undefined;
}

export interface SigningTokens extends Tokens {
  /** A token for a member, valid for so long (`1h`, `30d`). */
  sign(userId: string, validFor: string, also?: AlsoClaimed): Promise<string>;
}

export interface AlsoClaimed {
  role?: "operator" | undefined;
  actsForMembers?: boolean | undefined;
}

export interface TokenRules {
  /** What `iss` must say; undefined: anything. */
  issuer?: string | undefined;
  /** What `aud` must be or hold; undefined: anything. */
  audience?: string | undefined;
  /** The claim that may ask for the role `operator`. */
  roleClaim?: string;
  revocations?: { check(userId: string, issuedAt: number | undefined): void };
}

/**
 * How far an issuer's clock may be ahead, in seconds. A token from further ahead is refused, by `nbf` and by `iat`, so that a
 * clock which is wrong is noticed; a revocation covers as much (revocations.ts).
 */
export const aheadAtMost = 5;

/** HS256 with a shared secret of at least 32 characters. */
export function createTokens(secret: string, rules: TokenRules = {}): SigningTokens {
  const { issuer, audience, roleClaim = "role" } = rules;
  const key = new TextEncoder().encode(secret);
  return {
    ...createVerifier({ find: () => key, algorithms: ["HS256"], edition: 0 }, rules),
    sign(userId, validFor, { role, actsForMembers } = {}) {
      return new SignJWT({
        ...(role && { [roleClaim]: role }),
        ...(actsForMembers && { scope: recordsForMembers }),
        ...(issuer && { iss: issuer }),
        ...(audience && { aud: audience }),
      })
        .setProtectedHeader({ alg: "HS256" })
        .setSubject(userId)
        .setIssuedAt()
        .setExpirationTime(validFor)
        .sign(key);
    },
  };
}

/** Signed by an issuer, who publishes the keys. `issuer` and `audience` must be said: the keys may be for others too. */
export function createIssuedTokens(
  keys: KeySet,
  rules: TokenRules & { issuer: string; audience: string },
): Tokens {
  return createVerifier(keys, rules);
}

interface Verified {
  caller: Caller;
  issuedAt: number | undefined;
  /** Of the keys it was verified with. */
  edition: number | undefined;
}

function createVerifier(
  keys: Pick<KeySet, "find" | "algorithms" | "edition">,
  { issuer, audience, roleClaim = "role", revocations }: TokenRules,
): Tokens {
  const known = new LRUCache<string, Verified>({
    maxSize: 32_000_000,
    sizeCalculation: (_verified, authorization) => authorization.length + 500,
  });
  const options: JWTVerifyOptions = {
    algorithms: keys.algorithms,
    requiredClaims: ["sub", "exp"],
    clockTolerance: aheadAtMost,
    ...(issuer !== undefined && { issuer }),
    ...(audience !== undefined && { audience }),
  };

  function recallVerified(authorization: string | undefined): Caller | undefined {
    const verified = known.get(authorization ?? "");
    const { edition } = keys;
    if (!verified || edition === undefined || verified.edition !== edition) return undefined;
    if (verified.caller.expiresAt <= Date.now() / 1000) return undefined;
    revocations?.check(verified.caller.userId, verified.issuedAt);
    return verified.caller;
  }

  return {
    recall(authorization) {
      try {
        return recallVerified(authorization);
      } catch {
        return undefined;
      }
    },
    async verify(authorization) {
      const recalled = recallVerified(authorization);
      if (recalled) return recalled;
      const token = /^Bearer +([\w-]+\.[\w-]+\.[\w-]+) *$/i.exec(authorization ?? "")?.[1];
      if (authorization === undefined || !token) {
        throw unauthenticated("Send the header `Authorization: Bearer <token>`.");
      }
      // Read before, so that keys which change meanwhile are not taken for those that were used.
      const { edition } = keys;
      const payload = await verifySignature(token, keys, options);
      const caller = callerOf(payload, roleClaim);
      // The library is lenient here too, but an end is an end.
      if (caller.expiresAt <= Date.now() / 1000) throw unauthenticated("The token has expired.");
      if (payload.iat !== undefined && payload.iat > Date.now() / 1000 + aheadAtMost) {
        throw unauthenticated("The token's `iat` lies in the future.");
      }
      revocations?.check(caller.userId, payload.iat);
      known.set(authorization, { caller, issuedAt: payload.iat, edition });
      return caller;
    },
  };
}

async function verifySignature(
  token: string,
  { find, algorithms }: Pick<KeySet, "find" | "algorithms">,
  options: JWTVerifyOptions,
): Promise<JWTPayload> {
  try {
    return (await jwtVerify(token, find, options)).payload;
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw unauthenticated(whatIsWrong(error, algorithms));
  }
}

function whatIsWrong(error: unknown, algorithms: string[]): string {
  if (error instanceof errors.JWTExpired) return "The token has expired.";
  if (error instanceof errors.JWTClaimValidationFailed) {
    return `The token's claim \`${error.claim}\` is missing or not acceptable.`;
  }
  if (error instanceof errors.JOSEAlgNotAllowed) {
    return `The token must be signed with ${algorithms.join(" or ")}.`;
  }
  if (error instanceof errors.JWKSNoMatchingKey) {
    return "The token is signed with a key that its issuer does not have.";
  }
  if (error instanceof errors.JWKSMultipleMatchingKeys) {
    return "The token must name the key it is signed with (`kid`).";
  }
  return "The token is not valid.";
}
