/**
 * What a connection may cost: how long it may be slow, how much may wait in memory to be sent, how many there may be, and how many
 * requests may wait for the database. Called by server.ts. Whoever is refused is told to come back; who does not read is cut.
 */
import type { Server, ServerOptions } from "node:http";
import type { Socket } from "node:net";
import type { Pool } from "pg";
import type { Handler } from "./chain.ts";
import { Problem } from "../problems.ts";

/** Options of node:http's server, in milliseconds. */
export const timeouts: ServerOptions = {
  /** From the first byte of a request to the last of its body. */
  requestTimeout: 15_000,
  headersTimeout: 10_000,
  /** Longer than the minute of common load balancers, which would otherwise meet connections that are closing. */
  keepAliveTimeout: 65_000,
  connectionsCheckingInterval: 1000,
};

/** Of all clients together, what waits to be sent. */
const waitingBytesAtMost = 64 * 1024 * 1024;
/** For how long something may wait for one client without a break. */
const slowForMs = 60_000;
const lookEveryMs = 1000;
const requestsWaitingForDatabase = 200;

/** Keeps `server` within `atMost` connections, and within memory however slowly its clients read. */
export function guardConnections(server: Server, atMost: number): Handler {
  const waitingSince = new Map<Socket, number>();
  const sockets = new Set<Socket>();
  // Beyond this not even a refusal is sent.
  server.maxConnections = atMost + 500;
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => {
      sockets.delete(socket);
      waitingSince.delete(socket);
    });
  });
  const look = setInterval(() => cutSlowClients(sockets, waitingSince), lookEveryMs).unref();
  server.once("close", () => clearInterval(look));
  return (_request, response, next) => {
    if (sockets.size <= atMost) return next();
    response.setHeader("Connection", "close");
    next(new Problem(503, "Unavailable", "There are too many connections. Try again in a moment."));
  };
}

function cutSlowClients(sockets: Set<Socket>, waitingSince: Map<Socket, number>): void {
  const now = Date.now();
  const waiting = [...sockets].filter(({ writableLength }) => writableLength > 0);
  for (const socket of waitingSince.keys()) {
    if (socket.writableLength === 0) waitingSince.delete(socket);
  }
  for (const socket of waiting) {
    const since = waitingSince.get(socket) ?? now;
    waitingSince.set(socket, since);
    if (now - since >= slowForMs) socket.destroy();
  }
  let bytes = waiting.reduce((sum, { writableLength }) => sum + writableLength, 0);
  for (const socket of waiting.toSorted((a, b) => b.writableLength - a.writableLength)) {
    if (bytes <= waitingBytesAtMost) return;
    bytes -= socket.writableLength;
    socket.destroy();
  }
}

/** Whoever would wait behind very many others for a connection to the database is refused at once instead. */
export function refuseWhenFull(pool: Pool): Handler {
  return (_request, _response, next) => {
    if (pool.waitingCount < requestsWaitingForDatabase) return next();
    next(new Problem(503, "Unavailable", "Too many requests are waiting. Try again in a moment."));
  };
}
