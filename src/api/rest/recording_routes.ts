/**
 * The REST routes that record: one action, or several in one request. Mounted by rest.ts, which says how a user incentive is
 * answered.
 */
import express, { Router } from "express";
import type { Request, RequestHandler } from "express";
import type { Pool, PoolClient } from "pg";
import type { EvaluatorRegistry } from "../../evaluation/registry.ts";
import { compileSchema } from "../../evaluation/schema_check.ts";
import type { SchemaCheck } from "../../evaluation/schema_check.ts";
import { recordBatch } from "../batches.ts";
import { readIdempotencyKey, refuseIdempotencyKey } from "./idempotency_key.ts";
import { asMember } from "../member_session.ts";
import { Problem, unprocessable } from "../problems.ts";
import { record } from "../recording.ts";
import { Batch, Recording } from "./bodies.ts";
import type { Caller, Tokens } from "../tokens/tokens.ts";

export interface RecordingRoutesOptions {
  /** Connects as the authenticator. */
  pool: Pool;
  tokens: Tokens;
  evaluators: EvaluatorRegistry;
  /** The JSON of one user incentive, in the transaction of its member. */
  readUserIncentive: (client: PoolClient, id: string) => Promise<string>;
}

const recordingSchema = compileSchema(Recording);
const batchSchema = compileSchema(Batch);

export function recordingRoutes(options: RecordingRoutesOptions): Router {
  const body = (limit: string): RequestHandler[] => [
    verify(options.tokens),
    express.json({ limit }),
  ];
  return Router()
    .post("/user/incentives", body("100kb"), recordOne(options))
    .post("/user/incentives/batch", body("1mb"), recordSeveral(options));
}

/** Before the body is read: nobody makes this process parse anything without a token. */
function verify(tokens: Tokens): RequestHandler {
  return async (request, response, next) => {
    response.locals.caller = await tokens.verify(request.get("authorization"));
    next();
  };
}

function recordOne(options: RecordingRoutesOptions): RequestHandler {
  const { pool, evaluators, readUserIncentive } = options;
  return async (request, response) => {
    const caller = response.locals.caller as Caller;
    const idempotencyKey = readIdempotencyKey(request);
    const body = checkBody<{ incentive: string; data: unknown }>(request, recordingSchema);
    const action = { ...body, ...(idempotencyKey !== undefined && { idempotencyKey }) };
    const { id, replayed, answer } = await asMember(pool, caller, async (client) => {
      const recorded = await record(client, evaluators, caller, action);
      return { ...recorded, answer: await readUserIncentive(client, recorded.id) };
    });
    if (replayed) response.set("Idempotency-Replayed", "true");
    response.status(201).location(`/user/incentive/${id}`).type("application/json").send(answer);
  };
}

function recordSeveral({ pool, evaluators }: RecordingRoutesOptions): RequestHandler {
  return async (request, response) => {
    const caller = response.locals.caller as Caller;
    refuseIdempotencyKey(request);
    const { actions } = checkBody<{ actions: unknown[] }>(request, batchSchema);
    response.json({ results: await recordBatch(pool, evaluators, caller, actions) });
  };
}

/** The body, if it fits. Throws a 415 or 422 `Problem`. */
function checkBody<Body>(request: Request, schema: SchemaCheck): Body {
  if (!request.is("application/json")) {
    throw new Problem(415, "Unsupported media type", "Send the body as application/json.");
  }
  const problems = schema.problems(request.body);
  if (problems.length > 0) throw unprocessable(problems);
  return request.body as Body;
}
