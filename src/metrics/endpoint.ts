/**
 * GET /metrics for Prometheus, beside the API, or on a port of its own for a worker that runs alone. Called by start. It is
 * for operators: only who sends METRICS_TOKEN is answered, and a member's token is of no use here.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { collectDefaultMetrics } from "prom-client";
import type { Logger } from "../logger.ts";
import { errorClass } from "../error_class.ts";
import { metrics } from "./registry.ts";

export interface MetricsOptions {
  token: string;
  /** What the database knows; undefined in a process that may not ask. */
  gauges: (() => Promise<string>) | undefined;
  logger: Logger;
}

export function createMetricsHandler({ token, gauges, logger }: MetricsOptions): RequestListener {
  // Once a process, however many handlers it makes.
  if (!metrics.getSingleMetric("process_cpu_seconds_total")) {
    collectDefaultMetrics({ register: metrics });
  }
  return (request, response) => {
    if (!isAuthorized(request, token)) return refuse(response);
    Promise.all([metrics.metrics(), gauges?.()])
      .then((texts) => {
        response.writeHead(200, { "Content-Type": metrics.contentType }).end(texts.join("\n"));
      })
      .catch((error: unknown) => {
        logger.error({ error: errorClass(error) }, "metrics failed");
        response.writeHead(500).end();
      });
  };
}

export interface MetricsServer {
  stop(): Promise<void>;
}

/** For a worker that runs alone: nothing but /metrics. */
export async function startMetricsServer(
  handle: RequestListener,
  host: string,
  port: number,
): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    const isMetrics = request.method === "GET" && request.url?.split("?")[0] === "/metrics";
    if (isMetrics) handle(request, response);
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const taken = `METRICS_PORT: ${port} is taken on ${host}; stop what listens there or set another`;
      reject(error.code === "EADDRINUSE" ? new Error(taken) : error);
    });
    server.listen(port, host, resolve);
  });
  return {
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Hashed first: of one length, so that neither the length nor a common beginning shows in the time it takes. */
function isAuthorized({ headers }: IncomingMessage, token: string): boolean {
  const given = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? "")?.[1];
  return given !== undefined && timingSafeEqual(hash(given), hash(token));
}

function hash(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

function refuse(response: ServerResponse): void {
  const detail = "Send the header `Authorization: Bearer <METRICS_TOKEN>`.";
  response.writeHead(401, {
    "Content-Type": "application/problem+json",
    "WWW-Authenticate": "Bearer",
  });
  response.end(
    JSON.stringify({
      type: "about:blank",
      title: "Unauthenticated",
      status: 401,
      code: "UNAUTHENTICATED",
      detail,
    }),
  );
}
