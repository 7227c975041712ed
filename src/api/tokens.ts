/**
 * Bearer tokens: who is asking. The one place where a token is verified, for REST and GraphQL alike; the algorithm is
 * pinned, and nothing but `sub` is taken from the claims.
 */
import { errors, jwtVerify, SignJWT } from "jose";
import { unauthenticated } from "./problems.ts";

export interface Member {
  userId: string;
}

export interface Tokens {
  /** `authorization` is the header as it came. Throws a 401 `Problem` that says what is wrong with it. */
  verify(authorization: string | undefined): Promise<Member>;
  /** A token for a member, valid for so long (`1h`, `30d`). */
  sign(userId: string, validFor: string): Promise<string>;
}

/** HS256 with a shared secret of at least 32 characters. */
export function createTokens(secret: string): Tokens {
  const key = new TextEncoder().encode(secret);
  return {
    async verify(authorization) {
      const token = /^Bearer +([\w-]+\.[\w-]+\.[\w-]+) *$/i.exec(authorization ?? "")?.[1];
      if (!token) {
        throw unauthenticated("Send the header `Authorization: Bearer <token>`.");
      }
      const { payload } = await jwtVerify(token, key, {
        algorithms: ["HS256"],
        requiredClaims: ["sub", "exp"],
      }).catch((error: unknown) => {
        throw unauthenticated(whatIsWrong(error));
      });
      const { sub } = payload;
      if (typeof sub !== "string" || sub.length < 1 || sub.length > 255 || /\0/.test(sub)) {
        throw unauthenticated("The token's `sub` must be the member's id, 1 to 255 characters.");
      }
      return { userId: sub };
    },
    sign(userId, validFor) {
      return new SignJWT()
        .setProtectedHeader({ alg: "HS256" })
        .setSubject(userId)
        .setIssuedAt()
        .setExpirationTime(validFor)
        .sign(key);
    },
  };
}

function whatIsWrong(error: unknown): string {
  if (error instanceof errors.JWTExpired) return "The token has expired.";
  if (error instanceof errors.JWTClaimValidationFailed) {
    return `The token's claim \`${error.claim}\` is missing or not acceptable.`;
  }
  return "The token is not valid.";
}
