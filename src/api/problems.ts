/**
 * Errors as `application/problem+json` (RFC 9457). Routes throw a `Problem`; everything else that is thrown becomes a 500
 * whose body says nothing but a reference to the log. No answer repeats a value, a path of the server or SQL.
 */
import { randomUUID } from "node:crypto";
import type { ServerResponse } from "node:http";
import type { ErrorRequestHandler, RequestHandler } from "express";
import { errorClass } from "../error_class.ts";
import type { Logger } from "../logger.ts";

/** Where something is wrong (a JSON pointer into the request's body) and what. */
export interface FieldProblem {
  pointer: string;
  message: string;
}

export class Problem extends Error {
  readonly status: number;
  readonly title: string;
  readonly errors: FieldProblem[];

  constructor(status: number, title: string, detail: string, errors: FieldProblem[] = []) {
    super(detail);
    this.name = "Problem";
    this.status = status;
    this.title = title;
    this.errors = errors;
  }

  /** For programs: stable, and the same in REST and in GraphQL's `extensions`. */
  get code(): string {
    return this.title.toUpperCase().replaceAll(" ", "_");
  }
}

export const unauthenticated = (detail: string): Problem =>
  new Problem(401, "Unauthenticated", detail);

export function unprocessable(errors: FieldProblem[]): Problem {
  return new Problem(422, "Unprocessable", "The body does not fit; see errors.", errors);
}

export function forbidden(detail: string, errors: FieldProblem[] = []): Problem {
  return new Problem(403, "Forbidden", detail, errors);
}

/** Our own error codes (db/CONVENTIONS.md) that recording gives, as what they mean to a client. */
const recordingProblems: Record<string, () => Problem> = {
  IN002: () => unprocessable([{ pointer: "/incentive", message: "there is no such incentive" }]),
  IN003: () =>
    unprocessable([{ pointer: "/data", message: "would make a log of more than 5,000 entries" }]),
  IN004: () => unprocessable([{ pointer: "/data", message: "has nothing to record" }]),
  IN007: () =>
    new Problem(
      422,
      "Idempotency key reused",
      "This idempotency key was used for something else; take a new one.",
    ),
  IN008: () =>
    new Problem(410, "Gone", "What was recorded with this idempotency key is not there any more."),
};

/** Throws when there is no such code. */
export function problemOfCode(code: string): Problem {
  const make = recordingProblems[code];
  if (!make) throw new Error(`There is no problem for ${code}`);
  return make();
}

/** Our own error codes and PostgreSQL's, as what they mean to a client. */
export function problemOfDatabaseError(error: unknown): Problem | undefined {
  const { code } = (error ?? {}) as { code?: unknown };
  if (typeof code !== "string") return problemOfPool(error);
  const make = recordingProblems[code];
  if (make) return make();
  if (code === "42501") {
    return forbidden("This is not for the role that your token names.");
  }
  if (code === "IN005") return unauthenticated("The request carries no member.");
  if (code === "57014" || code === "55P03" || code === "25P04") return tookTooLong();
  if (code === "40001" || code === "40P01") return busy();
  if (/^22(P02|P03|P05|003|007|008|021)$/.test(code)) return unusableValue();
  const away = /^(08|57P|53|25P03)/.test(code) || /^E(CONN|PIPE|HOST|NOTFOUND|AI_)/.test(code);
  return away ? databaseAway() : undefined;
}

/** Whether the same may succeed in a moment: the database is away, is too busy, or two got in each other's way. */
export function isPassing(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  const isAway = (problemOfDatabaseError(error) ?? problemOfPool(error))?.status === 503;
  return isAway || (typeof code === "string" && /^(40|57)/.test(code));
}

export const databaseAway = (): Problem =>
  new Problem(503, "Unavailable", "The database cannot be reached. Try again in a moment.");

/** PostgreSQL ended it: statement_timeout or lock_timeout. */
export const tookTooLong = (): Problem =>
  new Problem(
    503,
    "Timeout",
    "This took too long and was ended. Ask for less, or try again later.",
  );

const busy = (): Problem =>
  new Problem(503, "Unavailable", "Others are writing the same. Try again in a moment.");

/** A cursor, an id or a date that PostgreSQL cannot read; its own words repeat it. */
const unusableValue = (): Problem =>
  new Problem(
    400,
    "Bad user input",
    "A value cannot be read: it does not fit its type or is out of range.",
  );

export const noSuchPath: RequestHandler = () => {
  throw new Problem(404, "Not found", "There is nothing at this path.");
};

export function problemHandler(logger: Logger): ErrorRequestHandler {
  return (error, _request, response, _next) => answerError(response, error, logger);
}

/** Also after a part was sent: then the client sees the answer cut short, and not a whole one that is wrong. */
export function answerError(response: ServerResponse, error: unknown, logger: Logger): void {
  if (response.headersSent) response.destroy();
  else sendProblem(response, toProblem(error, logger));
}

/** What it is to the client; the cause of a 500 is in the log, under the reference that the answer names. */
export function toProblem(error: unknown, logger: Logger): Problem {
  if (error instanceof Problem) return error;
  const known = problemOfBodyParser(error) ?? problemOfDatabaseError(error);
  if (known) return known;
  const reference = randomUUID();
  const stack = error instanceof Error ? error.stack?.match(/^ +at .+$/gm)?.slice(0, 5) : undefined;
  logger.error({ reference, error: errorClass(error), stack }, "request failed");
  return new Problem(
    500,
    "Internal error",
    `Something went wrong here. Report this reference: ${reference}`,
  );
}

/** What express.json() throws carries a `type`; its message may repeat the body. */
function problemOfBodyParser(error: unknown): Problem | undefined {
  const { type, status, limit } = (error ?? {}) as Record<string, unknown>;
  if (type === "entity.parse.failed") {
    return new Problem(400, "Bad request", "The body is not JSON.");
  }
  if (type === "entity.too.large") {
    const most = typeof limit === "number" ? `${limit / 1024} kB` : "it may";
    return new Problem(413, "Too large", `The body has more than ${most}; send less at a time.`);
  }
  if (typeof type === "string" && typeof status === "number" && status < 500) {
    return new Problem(status, "Bad request", `The body cannot be read (${type}).`);
  }
  return undefined;
}

/** The pool's own errors carry no code. */
function problemOfPool(error: unknown): Problem | undefined {
  const message = error instanceof Error ? error.message : "";
  const away =
    /timeout exceeded when trying to connect|Connection terminated|Client has encountered a connection error/;
  return away.test(message) ? databaseAway() : undefined;
}

export function sendProblem(response: ServerResponse, problem: Problem): void {
  const { status, title, code, message: detail, errors } = problem;
  if (status === 401) response.setHeader("WWW-Authenticate", "Bearer");
  if (status === 503) response.setHeader("Retry-After", "2");
  response.statusCode = status;
  response.setHeader("Content-Type", "application/problem+json; charset=utf-8");
  const problemJson = { type: "about:blank", title, status, code, detail };
  response.end(JSON.stringify(errors.length > 0 ? { ...problemJson, errors } : problemJson));
}
