/**
 * GET /user/incentives/events: what a member completes, as Server-Sent Events, for clients without WebSocket. Each event
 * carries a cursor; who comes back with it as `Last-Event-ID` is told exactly what was missed, however long ago that was. The
 * member's incentive in it is what GET /user/incentive/{id} answers.
 */
import type { Request, Response } from "express";
import { Router } from "express";
import type { Pool } from "pg";
import { errorClass } from "../../error_class.ts";
import type { Completions } from "../../live/completions.ts";
import type { Completion, Feed } from "../../live/feed.ts";
import type { Logger } from "../../logger.ts";
import { countDroppedClient, countLiveEvent } from "../../metrics/registry.ts";
import type { LiveClients } from "../live/clients.ts";
import type { Strangers } from "../live/strangers.ts";
import { readAsMember } from "../member_session.ts";
import type { PatientReader } from "../front/patient_reader.ts";
import { databaseAway, Problem } from "../problems.ts";
import { queries } from "./reads.ts";
import type { Caller } from "../tokens/tokens.ts";

const BEAT_EVERY_MS = 15_000;
const COME_BACK_AFTER_MS = 2000;
const READ_WITHIN_MS = 10_000;

export interface EventStreamOptions {
  /** Connects as the authenticator. */
  pool: Pool;
  clients: LiveClients;
  strangers: Strangers;
  completions: Completions;
  read: PatientReader;
  logger: Logger;
}

export function eventStream(options: EventStreamOptions): Router {
  const routes = Router();
  routes.get("/user/incentives/events", (request, response) => open(options, request, response));
  return routes;
}

async function open(
  options: EventStreamOptions,
  request: Request,
  response: Response,
): Promise<void> {
  const { clients, strangers, completions, logger } = options;
  strangers.enter(request);
  const { caller, leave } = await clients
    .enter("events", request.get("authorization"), () => response.end())
    .finally(() => strangers.leave(request));
  response.once("close", leave);
  const cursor = request.get("last-event-id") || completions.cursor();
  if (!cursor) throw databaseAway();
  const feed = await completions.resume(caller.userId, cursor);
  if (!feed) {
    throw new Problem(400, "Bad request", "Last-Event-ID: send the id of an event as it came.");
  }
  response.once("close", () => feed.end());
  if (response.closed) return feed.end();
  begin(response, cursor);
  await tell(options, caller, feed, response).catch((error: unknown) => {
    // The client comes back and goes on where it was.
    logger.error({ error: errorClass(error) }, "event stream failed");
  });
  feed.end();
  response.end();
}

function begin(response: Response, cursor: string): void {
  response.set({
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    // Reverse proxies hold back what they take for a file.
    "X-Accel-Buffering": "no",
  });
  // An id without data is no event, but who is cut off before the first one comes back with it.
  response.write(`retry: ${COME_BACK_AFTER_MS}\nid: ${cursor}\n\n`);
  const beat = setInterval(() => response.write(": still here\n\n"), BEAT_EVERY_MS);
  response.once("close", () => clearInterval(beat));
}

async function tell(
  { pool, read }: EventStreamOptions,
  caller: Caller,
  feed: Feed,
  response: Response,
): Promise<void> {
  for await (const completion of feed) {
    const incentive = await read(feed, () => readIncentive(pool, caller, completion));
    if (incentive === undefined) break;
    if (!(await write(response, textOf(completion, incentive)))) break;
    countLiveEvent("events");
  }
  if (feed.isTooSlow) drop(response);
}

/** As JSON; `null` when it was erased in the meantime. */
async function readIncentive(
  pool: Pool,
  caller: Caller,
  { userIncentiveId }: Completion,
): Promise<string> {
  const { rows } = await readAsMember(pool, caller, (client) =>
    client.query<{ answer: string }>(queries.userIncentive, [userIncentiveId]),
  );
  return rows[0]?.answer ?? "null";
}

function textOf({ id, occurredAt, cursor }: Completion, incentive: string): string {
  const about = JSON.stringify({ id, occurred_at: occurredAt }).slice(0, -1);
  const data = `${about},"user_incentive":${incentive}}`.replaceAll("\n", "");
  return `id: ${cursor}\nevent: incentive_completed\ndata: ${data}\n\n`;
}

/** Resolves when there is room for more; false when the client is gone, or does not read and is dropped. */
async function write(response: Response, text: string): Promise<boolean> {
  if (response.write(text)) return true;
  return new Promise((resolve) => {
    const settle = (isRoom: boolean): void => {
      clearTimeout(timer);
      response.off("drain", onDrain).off("close", onClose);
      resolve(isRoom);
    };
    const onDrain = (): void => settle(true);
    const onClose = (): void => settle(false);
    const timer = setTimeout(() => drop(response), READ_WITHIN_MS);
    response.once("drain", onDrain).once("close", onClose);
  });
}

function drop(response: Response): void {
  countDroppedClient("events");
  response.destroy();
}
