/**
 * The Authorization header of a request. Two of them are refused: Node shows the first, a proxy may have judged by the last.
 * Called first in the chain of handlers, and for WebSockets, which do not go through that.
 */
import type { IncomingMessage } from "node:http";
import type { Handler } from "../front/chain.ts";
import { unauthenticated } from "../problems.ts";

/** Throws a 401 `Problem` when there are two. */
export function authorizationOf({
  rawHeaders,
  headers,
}: Pick<IncomingMessage, "rawHeaders" | "headers">): string | undefined {
  const isOne = (text: string, position: number): boolean =>
    position % 2 === 0 && /^authorization$/i.test(text);
  if (rawHeaders.filter(isOne).length > 1) {
    throw unauthenticated("Send one header `Authorization`, not several.");
  }
  return headers.authorization;
}

export const refuseTwoAuthorizations: Handler = (request, _response, next) => {
  authorizationOf(request);
  next();
};
