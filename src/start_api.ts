/**
 * The part of the process that is the API: opens what it needs in order and leaves it to start.ts to close. Imported by start.ts
 * when there is to be an API, because what it is made of is large.
 */
import type { RequestListener } from "node:http";
import type { Pool } from "pg";
import { readPersistedOperations } from "./api/graphql/persisted_operations.ts";
import { onMemberWrite } from "./api/member_session.ts";
import { startApi } from "./api/server.ts";
import { openTokens } from "./api/tokens/open_tokens.ts";
import { Answers, memberHash } from "./cache/answers.ts";
import type { Configuration } from "./configuration.ts";
import { openPool } from "./database/pools.ts";
import { errorClass } from "./error_class.ts";
import { Completions } from "./live/completions.ts";
import { LiveSubscriber } from "./live/subscriber.ts";
import type { Part, Readiness } from "./start.ts";

/** Returns the port. `metrics` answers /metrics; undefined: there is none. */
export async function startApiPart(
  part: Part,
  metrics: RequestListener | undefined,
): Promise<number> {
  const { configuration, logger, database, evaluators, opened, readiness } = part;
  const { authenticatorUrl, jwtSecret } = database.forApi();
  // PostgreSQL ends each statement of a request after 5 s by itself.
  const pool = openPool(authenticatorUrl, "api", 20, logger, { heldAtMostMs: 12_000 });
  opened.push(() => pool.end());
  const live = new LiveSubscriber(authenticatorUrl, logger);
  live.on("completed", (range) => logger.debug(range, "incentive_completed heard"));
  live.start();
  opened.push(() => live.stop());
  // One connection of its own, so that no request is in the way of it.
  const livePool = openPool(authenticatorUrl, "live reader", 1, logger);
  opened.push(() => livePool.end());
  const completions = new Completions({ pool: livePool, subscriber: live, logger });
  completions.start();
  opened.push(() => completions.stop());
  const tokens = await openTokens({ configuration, jwtSecret, pool, live, logger });
  opened.push(() => tokens.stop());
  readiness.tokens = async () => tokens.isReady();
  readiness.database = () => isReachable(pool);
  readiness.live = async () => live.isHearing() || "not hearing notifications";

  const api = await startApi({
    host: configuration.host,
    port: configuration.port,
    pool,
    tokens,
    evaluators,
    completions,
    liveConnections: configuration.liveConnections,
    answers: keepAnswers(configuration, pool, live),
    logger,
    production: configuration.nodeEnv === "production",
    introspection: configuration.graphqlIntrospection,
    persistedOperations:
      configuration.persistedOperationsFolder === undefined
        ? undefined
        : await readPersistedOperations(
            configuration.persistedOperationsFolder,
            configuration.persistedOperationsOnly,
          ),
    rateLimits: configuration.rateLimits,
    corsOrigins: configuration.corsOrigins,
    connections: configuration.connections,
    readiness: () => askAll(readiness),
    metrics,
  });
  opened.push(() => api.stop());
  return api.port;
}

/** What was answered is kept in memory until its member writes through `pool`, or the live subscriber hears of a change. */
function keepAnswers(
  { answersMemoryMb, answersKeptSeconds }: Configuration,
  pool: Pool,
  live: LiveSubscriber,
): Answers | undefined {
  if (answersMemoryMb === 0) return undefined;
  const answers = new Answers({
    maxBytes: answersMemoryMb * 1024 * 1024,
    keptForMs: answersKeptSeconds * 1000,
    isHearing: () => live.isHearing(),
  });
  onMemberWrite(pool, (userId) => answers.beginWrite(memberHash(userId)));
  live.on("changing", (members) => answers.unsettle(members));
  live.on("changed", (members) => answers.settle(members));
  live.on("lost", () => answers.forget("all"));
  return answers;
}

async function isReachable(pool: Pool): Promise<true | string> {
  await pool.query("select 1");
  return true;
}

/** What throws is not well; its class says why. */
async function askAll(readiness: Readiness): Promise<Record<string, true | string>> {
  const answers = Object.entries(readiness).map(async ([part, ask]) => {
    const answer = await ask().catch((error: unknown) => errorClass(error));
    return [part, answer] as const;
  });
  return Object.fromEntries(await Promise.all(answers));
}
