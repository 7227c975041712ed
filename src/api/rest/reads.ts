/**
 * The REST routes, beside GraphQL and from the same views. The database makes the JSON, so that what a route answers is what
 * the view says.
 */
import { Router } from "express";
import type { Request, Response } from "express";
import type { Pool, PoolClient } from "pg";
import type { EvaluatorRegistry } from "../../evaluation/registry.ts";
import { readAsMember } from "../member_session.ts";
import { Problem } from "../problems.ts";
import { recordingRoutes } from "./recording_routes.ts";
import type { Tokens } from "../tokens/tokens.ts";

export interface RestOptions {
  /** Connects as the authenticator. */
  pool: Pool;
  tokens: Tokens;
  evaluators: EvaluatorRegistry;
}

const userIncentive = `
  json_build_object(
    'id', ui.id::text,
    'incentive', json_build_object('key', incentive.key, 'name', incentive.name),
    'status', ui.status,
    'progress', ui.progress,
    'data', ui.data,
    'explanation', ui.explanation,
    'completed_at', ui.completed_at,
    'created_at', ui.created_at,
    'updated_at', ui.updated_at
  )`;

const fromUserIncentives = `
  from api.user_incentives as ui
  join api.incentives as incentive on incentive.id = ui.incentive_id`;

/** Each answers JSON, as the member in whose session it is asked. */
export const queries = {
  userIncentives: `
    select json_build_object('incentives', coalesce(json_agg(${userIncentive} order by ui.id), '[]'))::text as answer
    ${fromUserIncentives}`,
  userIncentive: `
    select ${userIncentive}::text as answer
    ${fromUserIncentives}
    where ui.id = $1`,
  userRewards: `
    select json_build_object('rewards', coalesce(json_agg(
      json_build_object(
        'id', ur.id::text,
        'reward', json_build_object(
          'key', reward.key, 'name', reward.name, 'kind', reward.kind, 'amount', ur.amount, 'unit', ur.unit
        ),
        'incentive', json_build_object('key', incentive.key, 'name', incentive.name),
        'won_at', ur.won_at
      )
      order by ur.id
    ), '[]'))::text as answer
    from api.user_rewards as ur
    join api.rewards as reward on reward.id = ur.reward_id
    join api.incentives as incentive on incentive.id = ur.incentive_id`,
};

export function restRoutes(options: RestOptions): Router {
  const routes = Router();
  routes.get("/user/incentives", (request, response) =>
    answerQuery(options, request, response, queries.userIncentives, []),
  );
  routes.get("/user/incentive/:id", (request, response) =>
    answerQuery(options, request, response, queries.userIncentive, [checkId(request.params.id)]),
  );
  routes.get("/user/rewards", (request, response) =>
    answerQuery(options, request, response, queries.userRewards, []),
  );
  return routes.use(recordingRoutes({ ...options, readUserIncentive }));
}

async function answerQuery(
  { pool, tokens }: RestOptions,
  request: Request,
  response: Response,
  text: string,
  values: unknown[],
): Promise<void> {
  const caller = await tokens.verify(request.get("authorization"));
  const { rows } = await readAsMember(pool, caller, (client) =>
    client.query<{ answer: string }>(text, values),
  );
  if (!rows[0]) throw noSuchIncentive();
  response.type("application/json").send(rows[0].answer);
}

async function readUserIncentive(client: PoolClient, id: string): Promise<string> {
  const { rows } = await client.query<{ answer: string }>(queries.userIncentive, [id]);
  if (!rows[0]) throw new Error("What was just recorded is not there");
  return rows[0].answer;
}

/** An id that cannot be one is no different from one that is not there. */
function checkId(id: string | undefined): string {
  if (!/^[1-9]\d{0,17}$/.test(id ?? "")) throw noSuchIncentive();
  return id as string;
}

const noSuchIncentive = (): Problem =>
  new Problem(404, "Not found", "You have no incentive with this id.");
