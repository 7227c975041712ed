/**
 * Bearer tokens: who is asking. The one place where a token is verified, for REST, GraphQL and whatever else listens; the
 * algorithm is pinned, and no claim becomes a setting of the database by its own name.
 */
import { errors, jwtVerify, SignJWT } from "jose";
import type { JWTPayload } from "jose";
import { LRUCache } from "lru-cache";
import { unauthenticated } from "./problems.ts";

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
  /** `authorization` is the header as it came. Throws a 401 `Problem` that says what is wrong with it. */
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

const recordsForMembers = "record:members";

/** HS256 with a shared secret of at least 32 characters. */
export function createTokens(secret: string): SigningTokens {
  const key = new TextEncoder().encode(secret);
  const known = new LRUCache<string, Caller>({
    maxSize: 32_000_000,
    sizeCalculation: (_caller, authorization) => authorization.length + 500,
  });
  const recall = (authorization: string | undefined): Caller | undefined => {
    const caller = known.get(authorization ?? "");
    return caller && caller.expiresAt > Date.now() / 1000 ? caller : undefined;
  };
  return {
    recall,
    async verify(authorization) {
      const recalled = recall(authorization);
      if (recalled) return recalled;
      const token = /^Bearer +([\w-]+\.[\w-]+\.[\w-]+) *$/i.exec(authorization ?? "")?.[1];
      if (!authorization || !token) {
        throw unauthenticated("Send the header `Authorization: Bearer <token>`.");
      }
      const { payload } = await jwtVerify(token, key, {
        algorithms: ["HS256"],
        requiredClaims: ["sub", "exp"],
      }).catch((error: unknown) => {
        throw unauthenticated(whatIsWrong(error));
      });
      const caller = callerOf(payload);
      known.set(authorization, caller);
      return caller;
    },
    sign(userId, validFor, { role, actsForMembers } = {}) {
      return new SignJWT({
        ...(role && { role }),
        ...(actsForMembers && { scope: recordsForMembers }),
      })
        .setProtectedHeader({ alg: "HS256" })
        .setSubject(userId)
        .setIssuedAt()
        .setExpirationTime(validFor)
        .sign(key);
    },
  };
}

function callerOf({ sub, exp, role, scope }: JWTPayload): Caller {
  // A lone surrogate would be stored as another character, and so be somebody else.
  const isId = typeof sub === "string" && sub.length >= 1 && sub.length <= 255;
  if (!isId || sub.includes("\0") || !sub.isWellFormed()) {
    throw unauthenticated("The token's `sub` must be the member's id, 1 to 255 characters.");
  }
  if (role !== undefined && role !== "member" && role !== "operator") {
    throw unauthenticated('The token\'s `role` may be "member" or "operator" and nothing else.');
  }
  const scopes = typeof scope === "string" ? scope.split(" ") : [];
  return {
    userId: sub,
    role: role ?? "member",
    expiresAt: exp as number,
    actsForMembers: role !== "operator" && scopes.includes(recordsForMembers),
  };
}

function whatIsWrong(error: unknown): string {
  if (error instanceof errors.JWTExpired) return "The token has expired.";
  if (error instanceof errors.JWTClaimValidationFailed) {
    return `The token's claim \`${error.claim}\` is missing or not acceptable.`;
  }
  return "The token is not valid.";
}
