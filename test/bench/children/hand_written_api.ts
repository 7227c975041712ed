/**
 * What one would write by hand: an Express 5 route that sets role and claims in a transaction and runs one query. It verifies
 * each token once and remembers it, as ours does, so that what is compared is the reading.
 */
import express from "express";
import { jwtVerify } from "jose";
import { Pool } from "pg";
import { serve } from "./serve.ts";

export interface HandWrittenOptions {
  url: string;
  port: number;
  jwtSecret: string;
  /** Answers `{"incentives": […]}` in a column called `answer`. */
  query: string;
}

await serve(async ({ url, port, jwtSecret, query }: HandWrittenOptions) => {
  const pool = new Pool({ connectionString: url, max: 20 });
  const key = new TextEncoder().encode(jwtSecret);
  const members = new Map<string, string>();
  const memberOf = async (authorization = ""): Promise<string> => {
    const known = members.get(authorization);
    if (known !== undefined) return known;
    const { payload } = await jwtVerify(authorization.replace(/^Bearer /, ""), key);
    members.set(authorization, payload.sub ?? "");
    return payload.sub ?? "";
  };
  const app = express().disable("x-powered-by").disable("etag");
  app.get("/user/incentives", async (request, response) => {
    const member = await memberOf(request.get("authorization"));
    const client = await pool.connect();
    try {
      await client.query("begin");
      await client.query(
        "select set_config('role', 'incentives_member', true), set_config('incentives.user_id', $1, true)",
        [member],
      );
      const { rows } = await client.query<{ answer: string }>(query);
      await client.query("commit");
      response.type("application/json").send(rows[0]?.answer);
    } catch (error) {
      await client.query("rollback");
      throw error;
    } finally {
      client.release();
    }
  });
  app.listen(port, "127.0.0.1");
  return async () => {};
});
