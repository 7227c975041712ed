/**
 * WebSockets at one path of the HTTP server, whatever is spoken over them: how large a message may be and how many there may
 * be, whether the other side is still there, and that nothing is kept without end for one that does not read. Called by
 * graphql/socket.ts.
 */
import { ServerResponse } from "node:http";
import type { IncomingMessage, Server } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";
import type { Logger } from "../../logger.ts";
import { countDroppedClient } from "../../metrics/registry.ts";
import { Problem, sendProblem, toProblem } from "../problems.ts";
import { tooManyClients } from "./clients.ts";
import type { Strangers } from "./strangers.ts";

const MESSAGE_BYTES_AT_MOST = 100_000;
const MESSAGES_PER_MINUTE = 300;
const UNSENT_BYTES_AT_MOST = 1_000_000;
const SENT_WITHIN_MS = 10_000;
const PING_EVERY_MS = 15_000;
const GOODBYE_WITHIN_MS = 1000;
/** What a WebSocket's closing frame has room for. */
const REASON_BYTES_AT_MOST = 123;
const REFUSED_COME_BACK_AFTER_S = 3;

export interface LiveSocketOptions {
  server: Server;
  path: string;
  protocols: (offered: Set<string>) => string | false;
  /** No more connections than this, also of those who have not said yet who they are. */
  atMost: number;
  /** Who has connected and not said who they are; whoever learns it has them leave. */
  strangers: Strangers;
  logger: Logger;
  onSocket: (socket: WebSocket, request: IncomingMessage) => void;
}

/** Serves until `stop`, which says goodbye to everybody. */
export function serveWebSockets(options: LiveSocketOptions): { stop(): void } {
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MESSAGE_BYTES_AT_MOST,
    perMessageDeflate: false,
    handleProtocols: options.protocols,
  });
  const onUpgrade = (request: IncomingMessage, connection: Duplex, head: Buffer): void => {
    // Nobody else listens to it any more, and what nobody listens to would end the process.
    connection.on("error", () => {});
    try {
      if (request.url?.split("?")[0] !== options.path) throw noSuchSocket();
      if (sockets.clients.size >= options.atMost) throw tooManyClients();
      options.strangers.enter(request);
    } catch (error) {
      return refuse(request, connection, toProblem(error, options.logger));
    }
    connection.once("close", () => options.strangers.leave(request));
    sockets.handleUpgrade(request, connection, head, (socket) => {
      // What breaks a connection ends it; there is nobody else to tell.
      socket.on("error", () => {});
      limitMessages(socket);
      keepAlive(socket);
      options.onSocket(socket, request);
    });
  };
  options.server.on("upgrade", onUpgrade);
  return {
    stop() {
      options.server.off("upgrade", onUpgrade);
      for (const socket of sockets.clients) sayGoodbye(socket, 1001, "Going away");
      sockets.close();
    },
  };
}

/** Resolves when the other side's machine has taken it. Who does not take it in time is dropped. */
export function send(socket: WebSocket, data: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => dropSlow(socket), SENT_WITHIN_MS);
    socket.send(data, (error) => {
      clearTimeout(timer);
      if (error) reject(error);
      else resolve();
    });
  });
}

export function dropSlow(socket: WebSocket): void {
  countDroppedClient("websocket");
  sayGoodbye(socket, 1013, "Too slow: connect again");
}

/** Who does not answer the goodbye is gone a second later. */
export function sayGoodbye(socket: WebSocket, code: number, reason: string): void {
  // Cut between two characters.
  const bytes = Buffer.alloc(REASON_BYTES_AT_MOST);
  const { written } = new TextEncoder().encodeInto(reason, bytes);
  socket.close(code, bytes.subarray(0, written));
  setTimeout(() => socket.terminate(), GOODBYE_WITHIN_MS).unref();
}

function limitMessages(socket: WebSocket): void {
  let left = MESSAGES_PER_MINUTE;
  const timer = setInterval(() => (left = MESSAGES_PER_MINUTE), 60_000);
  const onMessage = (): void => {
    if (left-- <= 0) sayGoodbye(socket, 1008, "Too many messages");
    // Each message and each ping is answered, also to one that only asks and never reads.
    else if (socket.bufferedAmount > UNSENT_BYTES_AT_MOST) dropSlow(socket);
  };
  socket.on("message", onMessage);
  socket.on("ping", onMessage);
  socket.once("close", () => clearInterval(timer));
}

function keepAlive(socket: WebSocket): void {
  let isThere = true;
  const timer = setInterval(() => {
    if (!isThere) return socket.terminate();
    isThere = false;
    socket.ping();
  }, PING_EVERY_MS);
  socket.on("pong", () => (isThere = true));
  socket.once("close", () => clearInterval(timer));
}

const noSuchSocket = (): Problem =>
  new Problem(404, "Not found", "There is no WebSocket at this path.");

/** Not left to the other side to close: no time-out of the HTTP server reaches it here. */
function refuse(request: IncomingMessage, connection: Duplex, problem: Problem): void {
  const response = new ServerResponse(request);
  response.shouldKeepAlive = false;
  response.assignSocket(connection as Socket);
  response.once("finish", () => connection.end(() => connection.destroy()));
  if (problem.status === 429) response.setHeader("Retry-After", REFUSED_COME_BACK_AFTER_S);
  sendProblem(response, problem);
}
