/**
 * What a token's claims say of who sent it. Called by tokens.ts with claims whose signature and times are good. Three claims
 * are read and none other: whatever else a token carries has no effect.
 */
import type { JWTPayload } from "jose";
import { unauthenticated } from "../problems.ts";
import type { Caller } from "./tokens.ts";

/** In the claim `scope`: a partner's server, which records for members other than itself. */
export const recordsForMembers = "record:members";

/** Throws a 401 `Problem` when `sub` is nobody's id, or the role is not one that may be asked for. */
export function callerOf(claims: JWTPayload, roleClaim: string): Caller {
  const { sub, exp, scope } = claims;
  const isId = typeof sub === "string" && sub.length >= 1 && sub.length <= 255;
  // A lone surrogate would be stored as another character, and so be somebody else.
  if (!isId || sub.includes("\0") || !sub.isWellFormed()) {
    throw unauthenticated("The token's `sub` must be the member's id, 1 to 255 characters.");
  }
  const role = Object.hasOwn(claims, roleClaim) ? claims[roleClaim] : "member";
  if (role !== "member" && role !== "operator") {
    throw unauthenticated(
      `The token's \`${roleClaim}\` may be "member" or "operator" and nothing else.`,
    );
  }
  const scopes = typeof scope === "string" ? scope.split(" ") : [];
  return {
    userId: sub,
    role,
    expiresAt: exp as number,
    actsForMembers: role === "member" && scopes.includes(recordsForMembers),
  };
}
