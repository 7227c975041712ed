/**
 * How GraphQL reaches PostgreSQL: in the sessions that REST uses too (member_session.ts), which take two round trips for a
 * mutation and one for a query, where the library's own adaptor takes four. Called by graphql.ts.
 */
import type { Pool, PoolClient } from "pg";
import { makePgService } from "postgraphile/adaptors/pg";
import { inSession } from "../member_session.ts";

type Service = ReturnType<typeof makePgService>;
type WithPgClient = ReturnType<typeof makeWithPgClient>;

/** So that prepared statements never fill the server's memory. A connection is replaced now and then (database/pools.ts). */
const statementsAtMost = 100;

interface Query {
  text: string;
  values?: readonly unknown[];
  arrayMode?: boolean;
  name?: string;
}

export function createPgService(pool: Pool): Service {
  const service = makePgService({ pool, schemas: ["api"], pubsub: false });
  const createWithPgClient = (): WithPgClient => makeWithPgClient(pool);
  return { ...service, adaptor: { ...service.adaptor, createWithPgClient } } as unknown as Service;
}

function makeWithPgClient(pool: Pool) {
  return async <T>(
    settings: Record<string, string> | null,
    callback: (client: SessionClient) => Promise<T>,
  ): Promise<T> => inSession(pool, settings ?? {}, async (client) => callback(wrap(client, 0)));
}

interface SessionClient {
  rawClient: PoolClient;
  query(query: Query): Promise<{ rows: unknown[]; rowCount: number | null; notices: [] }>;
  withTransaction<T>(callback: (client: SessionClient) => Promise<T>): Promise<T>;
}

/** What the library knows of a client. Transactions within the session are savepoints. */
function wrap(client: PoolClient, depth: number): SessionClient {
  return {
    rawClient: client,
    async query({ text, values, arrayMode, name }) {
      const { rows, rowCount } = await client.query<Record<string, unknown>>({
        text,
        values: values as unknown[],
        ...(arrayMode && { rowMode: "array" }),
        ...(name !== undefined && isToBePrepared(client, name) && { name }),
      });
      return { rows, rowCount, notices: [] };
    },
    async withTransaction(callback) {
      const savepoint = `within_${depth}`;
      await client.query(`savepoint ${savepoint}`);
      try {
        const result = await callback(wrap(client, depth + 1));
        await client.query(`release savepoint ${savepoint}`);
        return result;
      } catch (error) {
        await client.query(`rollback to savepoint ${savepoint}`);
        throw error;
      }
    },
  };
}

const prepared = new WeakMap<PoolClient, Set<string>>();

function isToBePrepared(client: PoolClient, name: string): boolean {
  const names = prepared.get(client) ?? new Set();
  prepared.set(client, names);
  if (names.size < statementsAtMost) names.add(name);
  return names.has(name);
}
