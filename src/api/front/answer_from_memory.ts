/**
 * In front of Express, a plain handler that answers what was answered before (src/cache/answers.ts) and passes everything else
 * on, with an ear on what comes of it: a member's reads over REST and GraphQL. It never answers who has no valid token, and
 * never keeps a mutation, an error or introspection. That a member writes is told by member_session.ts.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { memberHash } from "../../cache/answers.ts";
import type { Answers, Flight } from "../../cache/answers.ts";
import { captureAnswer } from "./captured_answer.ts";
import type { Handler } from "./chain.ts";
import type { SendAnswer } from "./send_answer.ts";
import type { Caller, Tokens } from "../tokens/tokens.ts";

/** Longer questions are passed on unread. */
const bodyAtMost = 16 * 1024;
const restReads = /^\/user\/(?:incentives|incentive\/\d+|rewards)(?:\?|$)/;
const graphqlPath = /^\/graphql(?:\?|$)/;

/** A question on its way through Express. Over GraphQL only who has parsed it knows whether its answer may be kept. */
interface Asked {
  flight: Flight;
  isKeepable: boolean;
}

const asked = new WeakMap<IncomingMessage, Asked>();

/** Called by GraphQL before it executes: whether this is nothing but a query of what its member is told the changes of. */
export function settleKeeping(request: IncomingMessage | undefined, isKeepable: boolean): void {
  const question = request && asked.get(request);
  if (!question) return;
  question.isKeepable = isKeepable;
  // Nobody waits for a mutation to take its answer.
  if (!isKeepable) question.flight.end(undefined);
}

interface Asking {
  request: IncomingMessage & { body?: Buffer };
  response: ServerResponse;
  next: () => void;
  /** What the answer depends on, besides who asks. */
  question: string;
  isKeepable: boolean;
}

interface Memory {
  answers: Answers;
  send: SendAnswer;
}

export function answerFromMemory(answers: Answers, tokens: Tokens, send: SendAnswer): Handler {
  const memory = { answers, send };
  const asMember = (request: IncomingMessage, next: () => void, then: (who: Who) => void): void => {
    const { authorization } = request.headers;
    const known = tokens.recall(authorization);
    if (known) return known.role === "member" ? then(whoIs(known)) : next();
    // Who is refused here is told so by whoever is next.
    tokens.verify(authorization).then(
      (caller) => (caller.role === "member" ? then(whoIs(caller)) : next()),
      () => next(),
    );
  };
  return (request, response, next) => {
    const { method = "", url = "", headers } = request;
    if (method === "GET" && restReads.test(url)) {
      const asking = { request, response, next, question: url, isKeepable: true };
      asMember(request, next, (who) => setImmediate(answer, memory, who, asking));
    } else if (graphqlPath.test(url)) {
      if (method !== "GET" && !hasShortBody(request)) return next();
      asMember(request, next, (who) =>
        readQuestion(request, (body) => {
          if (method === "POST") Object.assign(request, { body });
          const question = `${method} ${url}\0${headers.accept}\0${headers["content-type"]}\0${body.toString("latin1")}`;
          const asking = { request, response, next, question, isKeepable: false };
          setImmediate(answer, memory, who, asking);
        }),
      );
    } else {
      next();
    }
  };
}

interface Who {
  member: string;
  /** Begins the keys of their answers. */
  prefix: string;
}

const known = new WeakMap<Caller, Who>();

function whoIs(caller: Caller): Who {
  const before = known.get(caller);
  if (before) return before;
  // No id contains a NUL, so that nobody's key can begin with another's.
  const who = { member: memberHash(caller.userId), prefix: `${caller.role}\0${caller.userId}\0` };
  known.set(caller, who);
  return who;
}

/**
 * Runs in the phase after the one in which the request was read: a change that had reached this process by then has been
 * heard by now.
 */
function answer(memory: Memory, who: Who, asking: Asking): void {
  const { answers, send } = memory;
  const { request, response } = asking;
  const key = who.prefix + asking.question;
  const isAnew = asksAnew(request);
  const found = isAnew ? undefined : answers.find(key);
  if (found) return send(request, response, found, "hit");
  const flight = isAnew ? undefined : answers.join(key);
  if (!flight) return ask(memory, key, who.member, asking);
  void flight.answer.then((shared) => {
    if (shared) send(request, response, shared, "miss");
    else ask(memory, key, who.member, asking);
  });
}

/** Who asks whether an answer they have is still good wants that one; `fetch` adds a no-cache to each If-None-Match by itself. */
function asksAnew({ headers }: IncomingMessage): boolean {
  if (headers["if-none-match"] !== undefined) return false;
  return /no-cache|no-store/i.test(headers["cache-control"] ?? "");
}

/** Lets Express answer, and keeps what it says. */
function ask({ answers, send }: Memory, key: string, member: string, asking: Asking): void {
  const { request, response, next, isKeepable } = asking;
  const flight = answers.begin(key, member);
  const question = { flight, isKeepable };
  asked.set(request, question);
  response.once("close", () => flight.end(undefined));
  captureAnswer(response, (captured) => {
    const isAnswer = question.isKeepable && captured !== undefined;
    const isKept = flight.end(isAnswer ? captured : undefined);
    if (isAnswer) send(request, response, captured, isKept ? "miss" : "live");
    return isAnswer;
  });
  next();
}

function hasShortBody({ method, headers }: IncomingMessage): boolean {
  const length = Number(headers["content-length"] ?? Number.NaN);
  return method === "POST" && length <= bodyAtMost && headers["content-encoding"] === undefined;
}

/** Of a GET it is all in the URL; what comes behind that has no limit and is not read. Never calls back when the client goes away. */
function readQuestion(request: IncomingMessage, then: (body: Buffer) => void): void {
  if (request.method === "GET") return then(Buffer.alloc(0));
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.once("end", () => then(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)));
}
