/**
 * The header `Idempotency-Key`, as draft-ietf-httpapi-idempotency-key-header has it: a quoted string; bare is taken too, as
 * most clients send it. Called by the REST route that records.
 */
import type { Request } from "express";
import { compileSchema } from "../../evaluation/schema_check.ts";
import { Problem } from "../problems.ts";
import { IdempotencyKey } from "./bodies.ts";

const keySchema = compileSchema(IdempotencyKey);

/** The key, without its quotes; undefined without the header. Throws a 400 `Problem` when it cannot be one. */
export function readIdempotencyKey(request: Request): string | undefined {
  const header = request.get("idempotency-key");
  if (header === undefined) return undefined;
  const quoted = /^"((?:[^"\\]|\\["\\])*)"$/.exec(header)?.[1]?.replaceAll(/\\(["\\])/g, "$1");
  const key = quoted ?? (header.startsWith('"') ? "" : header);
  const [problem] = keySchema.problems(key);
  if (problem) throw new Problem(400, "Bad request", `The Idempotency-Key ${problem.message}.`);
  return key;
}

/** A batch has a key for each action, because each succeeds for itself. */
export function refuseIdempotencyKey(request: Request): void {
  if (request.get("idempotency-key") === undefined) return;
  throw new Problem(
    400,
    "Bad request",
    "Send no Idempotency-Key header here; give each action an `idempotencyKey` of its own.",
  );
}
