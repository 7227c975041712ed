/**
 * What stays connected to be told of completions: subscriptions over WebSocket, and Server-Sent Events. Puts both together for
 * server.ts, with one count of connections and one queue of reading for both.
 */
import type { Server } from "node:http";
import type { Router } from "express";
import type { Pool } from "pg";
import type { GrafservBase } from "postgraphile/grafserv";
import type { Completions } from "../../live/completions.ts";
import type { Logger } from "../../logger.ts";
import { eventStream } from "../rest/event_stream.ts";
import { serveGraphqlSocket } from "../graphql/socket.ts";
import { LiveClients } from "./clients.ts";
import { Strangers } from "./strangers.ts";
import type { FailedTokens } from "../front/failed_tokens.ts";
import { createPatientReader } from "../front/patient_reader.ts";
import type { Tokens } from "../tokens/tokens.ts";

export interface LiveOptions {
  /** Connects as the authenticator. */
  pool: Pool;
  tokens: Tokens;
  completions: Completions;
  /** How many connections of both kinds this process holds. */
  atMost: number;
  /** How many proxies stand in front of this process. */
  trustedProxies: number;
  failedTokens: FailedTokens;
  logger: Logger;
}

export interface Live {
  /** GET /user/incentives/events. */
  routes: Router;
  /** WebSocket at /graphql, until `stop`. */
  serveSockets(server: Server, serv: GrafservBase): void;
  /** Ends every connection. */
  stop(): void;
}

export function createLive(options: LiveOptions): Live {
  const { pool, tokens, completions, atMost, trustedProxies, failedTokens, logger } = options;
  const clients = new LiveClients(tokens, atMost);
  const strangers = new Strangers(atMost, trustedProxies);
  const read = createPatientReader();
  let sockets: { stop(): void } | undefined;
  return {
    routes: eventStream({ pool, clients, strangers, completions, read, logger }),
    serveSockets(server, serv) {
      sockets = serveGraphqlSocket({
        server,
        serv,
        tokens,
        clients,
        strangers,
        failedTokens,
        completions,
        read,
        atMost,
        logger,
      });
    },
    stop() {
      clients.stop();
      sockets?.stop();
    },
  };
}
