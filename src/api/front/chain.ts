/**
 * The handlers in front of Express, in the order in which a request meets them: plain functions of node:http, because what is
 * refused or answered from memory must not pay for a router. Called by server.ts. A handler calls `next`, or answers and sets
 * the security headers itself; what it throws, at once or later, is answered as a problem.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { errorClass } from "../../error_class.ts";
import type { Logger } from "../../logger.ts";
import { answerError } from "../problems.ts";

export type Handler = (
  request: IncomingMessage,
  response: ServerResponse,
  next: (error?: unknown) => void,
) => void | Promise<void>;

export interface ChainOptions {
  /** Each is asked in turn. */
  handlers: Handler[];
  /** What none of them answered is left to it. */
  last: RequestListener;
  /** Set before `last` is asked, and before a request is refused. */
  headers: Map<string, string>;
  logger: Logger;
}

export function chain({ handlers, last, headers, logger }: ChainOptions): RequestListener {
  return (request, response) => {
    // A word that comes after the end, to a client that does not read, is lost; heard by nobody it would end the process.
    response.on("error", (error) => logger.debug({ error: errorClass(error) }, "answer cut"));
    const refuse = (error: unknown): void => {
      if (!response.headersSent) response.setHeaders(headers);
      answerError(response, error, logger);
    };
    const ask = (position: number): void => {
      const handler = handlers[position];
      if (!handler) return last(request, response.setHeaders(headers));
      const next = (error?: unknown): void => (error ? refuse(error) : ask(position + 1));
      try {
        const answering = handler(request, response, next);
        if (answering instanceof Promise) answering.catch(refuse);
      } catch (error) {
        refuse(error);
      }
    };
    ask(0);
  };
}

/** For what must not stand between this process and those who watch it. */
export function exceptProbes(handler: Handler): Handler {
  return (request, response, next) => {
    const isProbe = /^\/(?:healthz|readyz|metrics)$/.test(request.url ?? "");
    return isProbe ? next() : handler(request, response, next);
  };
}
