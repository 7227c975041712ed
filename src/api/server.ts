/**
 * The HTTP server: REST, GraphQL, and what tells an operator whether this process is well. Called by start. It reads `api.*`
 * only, and connects as the authenticator.
 */
import { createServer } from "node:http";
import type { RequestListener, Server } from "node:http";
import type { AddressInfo } from "node:net";
import express from "express";
import type { Express } from "express";
import type { Pool } from "pg";
import { grafserv } from "postgraphile/grafserv/express/v4";
import type { Answers } from "../cache/answers.ts";
import type { EvaluatorRegistry } from "../evaluation/registry.ts";
import type { Completions } from "../live/completions.ts";
import type { Logger } from "../logger.ts";
import { answerFromMemory } from "./front/answer_from_memory.ts";
import { refuseTwoAuthorizations } from "./tokens/authorization.ts";
import { chain, exceptProbes } from "./front/chain.ts";
import { guardConnections, refuseWhenFull, timeouts } from "./front/connections.ts";
import { crossOrigin } from "./front/cross_origin.ts";
import { FailedTokens } from "./front/failed_tokens.ts";
import { createGraphql, requireCaller } from "./graphql/graphql.ts";
import { createLive } from "./live/live.ts";
import { openapiRoutes } from "./rest/openapi_routes.ts";
import { checkPersistedOperations } from "./graphql/persisted_operations.ts";
import type { PersistedOperations } from "./graphql/persisted_operations.ts";
import { noSuchPath, problemHandler } from "./problems.ts";
import { limitRates } from "./front/rate_limits.ts";
import type { RateLimits } from "./front/rate_limits.ts";
import { restRoutes } from "./rest/reads.ts";
import { securityHeaders } from "./front/security_headers.ts";
import { answerSender } from "./front/send_answer.ts";
import { SharedRates } from "./front/shared_rates.ts";
import type { Tokens } from "./tokens/tokens.ts";

export interface ApiOptions {
  host: string;
  /** 0 takes any free port. */
  port: number;
  /** Connects as the authenticator. */
  pool: Pool;
  tokens: Tokens;
  evaluators: EvaluatorRegistry;
  completions: Completions;
  /** How many live connections this process holds at the most. */
  liveConnections: number;
  /** What is kept in memory of what was answered; undefined: nothing is. */
  answers: Answers | undefined;
  logger: Logger;
  production: boolean;
  /** Whether GraphQL clients may ask for the schema. */
  introspection: boolean;
  /** What GraphQL clients may name instead of sending. */
  persistedOperations: PersistedOperations | undefined;
  rateLimits: RateLimits;
  /** Whose pages may use the API from a browser. */
  corsOrigins: readonly string[];
  /** How many connections this process holds at the most. */
  connections: number;
  /** Each part of the process and whether it is well, for /readyz. */
  readiness: () => Promise<Record<string, true | string>>;
  /** Answers /metrics, after asking for its token; undefined: there is none. */
  metrics: RequestListener | undefined;
}

export interface RunningApi {
  /** Where it listens. */
  port: number;
  /** Lets requests in hand finish, up to 2 s. */
  stop(): Promise<void>;
}

export async function startApi(options: ApiOptions): Promise<RunningApi> {
  const { host, port, pool, tokens, evaluators, answers, logger } = options;
  const graphql = createGraphql(options);
  // The first request would otherwise meet a schema that is not there yet.
  const schema = await graphql.getSchema();
  if (options.persistedOperations) checkPersistedOperations(options.persistedOperations, schema);

  const app = express().disable("x-powered-by").disable("etag");
  healthRoutes(app, options);
  app.use(openapiRoutes(evaluators, options.production));
  const { failuresPerAddress, trustedProxies } = options.rateLimits;
  const failedTokens = new FailedTokens(failuresPerAddress, trustedProxies);
  const atMost = options.liveConnections;
  const live = createLive({ ...options, atMost, trustedProxies, failedTokens });
  app.use(live.routes);
  app.use(restRoutes({ pool, tokens, evaluators }));
  app.use("/graphql", requireCaller(tokens));
  const server = createServer(timeouts);
  const sharedRates = new SharedRates(pool, logger);
  const headers = securityHeaders(options.production);
  // A request meets these in this order, and Express last.
  const handlers = [
    ...crossOrigin(options.corsOrigins, headers),
    exceptProbes(guardConnections(server, options.connections)),
    refuseTwoAuthorizations,
    exceptProbes(limitRates(options.rateLimits, tokens, sharedRates, failedTokens)),
    ...(answers ? [answerFromMemory(answers, tokens, answerSender(headers))] : []),
    exceptProbes(refuseWhenFull(pool)),
  ];
  server.on("request", chain({ handlers, last: app, headers, logger }));
  const serv = graphql.createServ(grafserv);
  await serv.addTo(app, server, false);
  live.serveSockets(server, serv);
  app.use(noSuchPath);
  app.use(problemHandler(logger));
  await listen(server, host, port);
  return {
    port: (server.address() as AddressInfo).port,
    async stop() {
      live.stop();
      await close(server);
      sharedRates.stop();
      await graphql.release();
    },
  };
}

/** Alive: this process answers. Ready: so does everything it needs, each by its name. */
function healthRoutes(app: Express, { readiness, metrics }: ApiOptions): void {
  if (metrics) app.get("/metrics", metrics);
  app.get("/healthz", (_request, response) => {
    response.json({ status: "ok" });
  });
  // No rate limits this, so whoever asks meanwhile is given the same answer, and the database is asked once.
  let asking: ReturnType<typeof readiness> | undefined;
  app.get("/readyz", async (_request, response) => {
    asking ??= readiness().finally(() => (asking = undefined));
    const parts = await asking;
    const ready = Object.values(parts).every((part) => part === true);
    response.status(ready ? 200 : 503).json({ status: ready ? "ready" : "not ready", ...parts });
  });
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const taken = error.code === "EADDRINUSE";
      reject(
        taken
          ? new Error(`PORT: ${port} is taken on ${host}; stop what listens there or set another`)
          : error,
      );
    });
    server.listen(port, host, () => resolve());
  });
}

async function close(server: Server): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), 2000);
  await closed;
  clearTimeout(timer);
}
