/**
 * GraphQL over WebSocket (the protocol graphql-ws, at /graphql), for subscriptions alone: queries and mutations go over HTTP,
 * where they are limited and remembered. Validation, planning and masking are those of HTTP. Called by server.ts.
 *
 * A subscription is a feed of events, each answered as an operation of its own, so that an answer the database could not give
 * is asked for again instead of being lost.
 */
import type { IncomingMessage, Server } from "node:http";
import { handleProtocols, makeServer } from "graphql-ws";
import type { Context, ServerOptions } from "graphql-ws";
import { subscribe } from "postgraphile/grafast";
import { makeGraphQLWSConfig } from "postgraphile/grafserv";
import type { GrafservBase } from "postgraphile/grafserv";
import { getOperationAST, GraphQLError } from "postgraphile/graphql";
import type { ExecutionArgs, ExecutionResult } from "postgraphile/graphql";
import type { WebSocket } from "ws";
import { errorClass } from "../../error_class.ts";
import type { Completions } from "../../live/completions.ts";
import type { Completion } from "../../live/feed.ts";
import type { Logger } from "../../logger.ts";
import { countLiveEvent } from "../../metrics/registry.ts";
import { authorizationOf } from "../tokens/authorization.ts";
import type { LiveClients } from "../live/clients.ts";
import type { Strangers } from "../live/strangers.ts";
import { dropSlow, sayGoodbye, send, serveWebSockets } from "../live/socket.ts";
import type { FailedTokens } from "../front/failed_tokens.ts";
import type { PatientReader } from "../front/patient_reader.ts";
import { tooManyRequests } from "../front/rate_limits.ts";
import { isPassing, toProblem } from "../problems.ts";
import type { Caller, Tokens } from "../tokens/tokens.ts";

const SUBSCRIPTIONS_AT_MOST = 10;
const INIT_WITHIN_MS = 3000;
const refusal =
  "Only subscriptions go over WebSocket; send queries and mutations by POST /graphql.";

export interface GraphqlSocketOptions {
  server: Server;
  serv: GrafservBase;
  tokens: Tokens;
  clients: LiveClients;
  strangers: Strangers;
  failedTokens: FailedTokens;
  completions: Completions;
  read: PatientReader;
  /** Connections of this kind that the process holds. */
  atMost: number;
  logger: Logger;
}

interface Extra extends Record<PropertyKey, unknown> {
  socket: WebSocket;
  request: IncomingMessage;
}

type Protocol = ServerOptions<Record<string, unknown>, Extra>;

/** Who is connected, by the request they connected with: all that GraphQL's context is given of a WebSocket. */
const callers = new WeakMap<IncomingMessage, Caller>();

export const callerOfSocket = (request: IncomingMessage | undefined): Caller | undefined =>
  request && callers.get(request);

export function serveGraphqlSocket(options: GraphqlSocketOptions): { stop(): void } {
  const graphql = makeServer(protocolOf(options));
  return serveWebSockets({
    server: options.server,
    path: "/graphql",
    protocols: handleProtocols,
    atMost: options.atMost,
    strangers: options.strangers,
    logger: options.logger,
    onSocket(socket, request) {
      const closed = graphql.opened(
        {
          protocol: socket.protocol,
          send: (data) => send(socket, data),
          close: (code, reason) => sayGoodbye(socket, code ?? 1000, reason ?? ""),
          onMessage(take) {
            socket.on("message", (data: Buffer) => {
              take(data.toString()).catch((error: unknown) => {
                if (socket.readyState !== socket.OPEN) return;
                options.logger.error({ error: errorClass(error) }, "subscription failed");
                sayGoodbye(socket, 4500, "Internal server error");
              });
            });
          },
        },
        { socket, request },
      );
      socket.once("close", (code, reason) => void closed(code, reason.toString()));
    },
  });
}

function protocolOf(options: GraphqlSocketOptions): Protocol {
  const asHttp = makeGraphQLWSConfig(options.serv) as unknown as Protocol;
  return {
    ...asHttp,
    connectionInitWaitTimeout: INIT_WITHIN_MS,
    onConnect: (context) => admit(options, context),
    async onSubscribe(context, id, payload) {
      // Before anything is waited for: this one is counted already, and none that comes after it.
      if (Object.keys(context.subscriptions).length > SUBSCRIPTIONS_AT_MOST) {
        return [
          new GraphQLError(
            `A connection may have ${SUBSCRIPTIONS_AT_MOST} subscriptions; complete one.`,
            { extensions: { code: "TOO_MANY_REQUESTS" } },
          ),
        ];
      }
      const prepared = await asHttp.onSubscribe?.(context, id, payload);
      if (!prepared || Array.isArray(prepared)) return prepared;
      const { document, operationName } = prepared as ExecutionArgs;
      const kind = getOperationAST(document, operationName)?.operation;
      return kind === "query" || kind === "mutation"
        ? [new GraphQLError(refusal, { extensions: { code: "METHOD_NOT_ALLOWED" } })]
        : prepared;
    },
    subscribe: (args) => answerEvents(options, args as ExecutionArgs) as never,
  };
}

/** False closes the connection; a client of graphql-ws comes back by itself after any code but 4401. */
async function admit(
  { tokens, clients, strangers, failedTokens, logger }: GraphqlSocketOptions,
  { connectionParams = {}, extra: { socket, request } }: Context<Record<string, unknown>, Extra>,
): Promise<boolean> {
  const param = connectionParams.Authorization ?? connectionParams.authorization;
  const failed = failedTokens.keyOf(request);
  try {
    const authorization = typeof param === "string" ? param : authorizationOf(request);
    const isKnown = tokens.recall(authorization) !== undefined;
    if (!isKnown && (await failedTokens.areTooMany(failed))) throw tooManyRequests();
    const { caller, leave } = await clients.enter("websocket", authorization, (why) => {
      if (why === "token") sayGoodbye(socket, 4403, "The token is no longer valid");
      else sayGoodbye(socket, 1001, "Going away");
    });
    socket.once("close", leave);
    if (socket.readyState !== socket.OPEN) leave();
    callers.set(request, caller);
    strangers.leave(request);
    return true;
  } catch (error) {
    const { status, message } = toProblem(error, logger);
    if (status === 401) failedTokens.count(failed);
    sayGoodbye(socket, { 401: 4401, 403: 4403 }[status] ?? 1013, message);
    return false;
  }
}

/** Not an async generator: that could not be ended while it waits for the next event. */
function answerEvents(
  { completions, read }: GraphqlSocketOptions,
  args: ExecutionArgs,
): AsyncGenerator<ExecutionResult, undefined> {
  const { caller } = args.contextValue as Grafast.Context;
  const { socket } = (args as ExecutionArgs & { requestContext: { ws: Extra } }).requestContext.ws;
  if (!caller) throw new Error("The context carries no caller");
  const feed = completions.follow(caller.userId);
  const end = async (): Promise<IteratorReturnResult<undefined>> => {
    feed.end();
    return { value: undefined, done: true };
  };
  return {
    async next() {
      const { value: completion } = await feed.next();
      const value = completion && (await read(feed, () => answer(args, completion)));
      if (feed.isTooSlow) dropSlow(socket);
      if (!value) return end();
      countLiveEvent("websocket");
      return { value, done: false };
    },
    return: end,
    throw: end,
    [Symbol.asyncIterator]() {
      return this;
    },
    async [Symbol.asyncDispose]() {
      feed.end();
    },
  };
}

/** Throws when the database is away, so that it is asked again. */
async function answer(args: ExecutionArgs, completion: Completion): Promise<ExecutionResult> {
  const one = async function* (): AsyncGenerator<Completion> {
    yield completion;
  };
  const answers = await subscribe({
    ...args,
    contextValue: { ...(args.contextValue as object), completion: { subscribe: one } },
  } as Parameters<typeof subscribe>[0]);
  const isRefused = !(Symbol.asyncIterator in answers);
  const result = (isRefused ? answers : (await answers.next()).value) as ExecutionResult;
  if (!isRefused) await answers.return(undefined);
  const passing = result.errors?.find(({ originalError }) => isPassing(originalError));
  if (passing) throw passing.originalError;
  return result;
}
