/**
 * Writes an answer of status 200 that is whole, or says that the client has it already. Called by answer_from_memory.ts. The head is
 * given to `writeHead` in one piece: header by header it would be a good part of what an answer from memory costs.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Answer } from "../../cache/answers.ts";
import { countAnswer } from "../../metrics/registry.ts";

/** From memory; asked for and kept there; asked for and not kept. */
export type How = "hit" | "miss" | "live";

export type SendAnswer = (
  request: IncomingMessage,
  response: ServerResponse,
  answer: Answer,
  how: How,
) => void;

/** `securityHeaders` go with each whole answer. */
export function answerSender(securityHeaders: ReadonlyMap<string, string>): SendAnswer {
  const secure = Object.fromEntries(securityHeaders);
  return ({ method, headers }, response, { body, etag, contentType }, how) => {
    // Over POST there is nothing to compare: whoever posts wants the answer.
    const isKnown = method === "GET" && matches(headers["if-none-match"], etag);
    countAnswer(how, isKnown);
    const vary = response.getHeader("vary");
    const always = {
      etag,
      "cache-control": "private, no-cache",
      vary: vary === undefined ? "Authorization, Accept" : `${String(vary)}, Authorization, Accept`,
      "x-cache": how,
    };
    if (isKnown) {
      // It shows nothing; the security headers came with the answer that the client has, and go on being true of that.
      response.writeHead(304, always).end();
      return;
    }
    const whole = { "content-type": contentType, "content-length": body.length };
    response.writeHead(200, { ...secure, ...always, ...whole }).end(body);
  };
}

function matches(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return false;
  if (ifNoneMatch === etag || ifNoneMatch.trim() === "*") return true;
  return ifNoneMatch.split(",").some((one) => one.trim().replace(/^W\//, "") === etag);
}
