/** The exported GraphQL schema is the one that is served: client developers generate code from it. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Pool } from "pg";
import { printGraphqlSchema } from "../../src/api/graphql/graphql.ts";
import { createLogger } from "../../src/logger.ts";
import { createTestDatabase } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

test("src/api/schema.graphql is fresh (npx incentives schema > src/api/schema.graphql)", async () => {
  const pool = new Pool({ connectionString: database.authenticatorUrl });
  const printed = await printGraphqlSchema({
    pool,
    evaluators: new Map(),
    logger: createLogger("silent"),
  });
  await pool.end();
  const file = new URL("../../src/api/schema.graphql", import.meta.url);
  expect(await readFile(file, "utf8")).toBe(printed);
});
