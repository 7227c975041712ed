/** The commands; each is a few lines that call the room which does it. */
import { ConfigurationError, readConfiguration, settings } from "./configuration.ts";
import { program, InvalidArgumentError, Option } from "commander";
import type { Command } from "commander";
import { asMember } from "./api/member_session.ts";
import { record } from "./api/recording.ts";
import { Problem } from "./api/problems.ts";
import { tokensToSign } from "./api/tokens/open_tokens.ts";
import { revokeTokens } from "./api/tokens/revocations.ts";
import type { AlsoClaimed } from "./api/tokens/tokens.ts";
import { addCacheCommands } from "./cache/commands.ts";
import { migrate } from "./database/migrate.ts";
import { openDatabase, ownerUrlOf } from "./database/open.ts";
import type { Database } from "./database/open.ts";
import { openPool } from "./database/pools.ts";
import { askToEvaluateAgain } from "./evaluation/evaluate_again.ts";
import { loadEvaluators } from "./evaluation/registry.ts";
import { createDisplay, watchDefaults, watchEvaluation } from "./evaluation/watch_evaluation.ts";
import { silenceLibraries } from "./library_output.ts";
import { createLogger } from "./logger.ts";
import { start } from "./start.ts";
import { handleUnhandled } from "./unhandled.ts";
import { describeParkedJobs, readParkedJobs, retryParkedJobs } from "./worker/parked_jobs.ts";

program
  .name("incentives")
  .description("An incentive system that lives in your own PostgreSQL.")
  .addHelpText("after", () => `\nSettings (environment):\n${describeSettings()}\n`)
  .configureHelp({ showGlobalOptions: true })
  .showHelpAfterError("(incentives --help lists the commands)");

program
  .command("start")
  .description("start the database (unless DATABASE_URL is set), the worker and the API")
  .addOption(new Option("--only <part>", "run one part alone").choices(["api", "worker"]))
  .action(async ({ only }: { only?: "api" | "worker" }) => {
    const configuration = readConfiguration();
    const logger = createLogger(configuration.logLevel);
    silenceLibraries(logger);
    const running = await start({ configuration, logger, only });
    let exitCode: number | undefined;
    const end = (code: number): void => {
      exitCode ??= code;
      void running.stop().finally(() => process.exit(exitCode));
    };
    // Kept, not `once`: a signal that comes again, as from a process group, must not cut the stopping short.
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.on(signal, () => end(0));
    }
    handleUnhandled({ logger, restartWorker: (why) => running.restartWorker(why), end });
    console.log(
      running.apiPort === undefined ? "Incentives worker is ready" : ready(running.apiPort),
    );
  });

program
  .command("migrate")
  .description("install or upgrade the schema")
  .action(() =>
    withDatabase(async (database, logger) => {
      await migrate(ownerUrlOf(database), logger);
      console.log("The schema is up to date.");
    }),
  );

const token = program
  .command("token")
  .description("print a token for a member, for trying things out")
  .requiredOption("--user <id>", "the member's id")
  .option("--valid-for <time>", "how long it is valid, for example 30m, 12h, 7d", checkTime, "12h")
  .addOption(new Option("--role <role>", "for an operator").choices(["operator"]))
  .option("--acts-for-members", "for a partner's server, which records for other members")
  .action(({ user, validFor, ...also }: { user: string; validFor: string } & AlsoClaimed) =>
    withDatabase(async (database) => {
      const tokens = tokensToSign(readConfiguration(), database.forApi().jwtSecret);
      console.log(await tokens.sign(user, validFor, also));
    }),
  );

token
  .command("revoke")
  .description("refuse every token of a member, or operator, that was issued before now")
  .action((_options: object, command: Command) =>
    withOwnerPool(async (pool) => {
      await revokeTokens(pool, command.optsWithGlobals<{ user: string }>().user);
      console.log("Refused from now on. A token issued 6 s from now or later is accepted.");
    }),
  );

program
  .command("record")
  .description("record an action for a member, as the API does")
  .requiredOption("--user <id>", "the member's id")
  .argument("<incentive>", "the incentive's key, for example birth_record")
  .argument("<json>", "what the member did, as JSON", checkJson)
  .action((incentive: string, data: unknown, { user }: { user: string }) =>
    withDatabase(async (database, logger) => {
      const evaluators = await loadEvaluators();
      const pool = openPool(database.forApi().authenticatorUrl, "record", 1, logger);
      try {
        const caller = { role: "member", userId: user, actsForMembers: false } as const;
        const { id } = await asMember(pool, caller, (client) =>
          record(client, evaluators, caller, { incentive, data }),
        );
        console.log(`Recorded as user incentive ${id}.`);
      } finally {
        await pool.end();
      }
    }),
  );

program
  .command("evaluate")
  .description("have everything that is not completed judged again, after an evaluator changed")
  .addOption(new Option("--all", "of all incentives").conflicts("incentive"))
  .option("--incentive <key>", "of one incentive, by its key")
  .action(({ all, incentive }: { all?: true; incentive?: string }) => {
    if (!all && incentive === undefined) program.error("error: say --all or --incentive KEY");
    return withOwnerPool(async (pool) => {
      const asked = await askToEvaluateAgain(pool, incentive);
      const total = asked.reduce((sum, { open }) => sum + open, 0);
      const enough = new AbortController();
      process.once("SIGINT", () => enough.abort());
      const display = createDisplay(process.stdout, total);
      const options = { ...watchDefaults, pool, asked, display, enough: enough.signal };
      console.log(
        (await watchEvaluation(options))
          ? `All ${total} rows that are not completed were judged again.`
          : "Watching is over; the worker goes on with it.",
      );
    });
  });

program
  .command("database-url")
  .description("print the owner's connection string, for example for psql")
  .action(() => withDatabase(async (database) => console.log(ownerUrlOf(database))));

program
  .command("schema")
  .description("print the GraphQL schema, for client developers' tools")
  .action(() =>
    withDatabase(async (database, logger) => {
      const { printGraphqlSchema } = await import("./api/graphql/graphql.ts");
      const pool = openPool(database.forApi().authenticatorUrl, "schema", 2, logger);
      try {
        const evaluators = await loadEvaluators();
        process.stdout.write(await printGraphqlSchema({ pool, evaluators, logger }));
      } finally {
        await pool.end();
      }
    }),
  );

addCacheCommands(program, withOwnerPool);

const jobs = program.command("jobs").description("what the worker could not do");

jobs
  .command("failed")
  .description("list the jobs that failed for good, with the reason")
  .action(() =>
    withOwnerPool(async (pool) => {
      const parked = await readParkedJobs(pool);
      console.log(parked.length > 0 ? describeParkedJobs(parked) : "No job has failed for good.");
    }),
  );

jobs
  .command("retry")
  .description("try such jobs again, from the first attempt")
  .argument("[ids...]", "the jobs' ids, as `jobs failed` prints them")
  .option("--all", "all of them")
  .action((ids: string[], { all }: { all?: true }) => {
    if ((ids.length === 0) === (all === undefined)) program.error("error: say --all or ids");
    const wrong = ids.find((id) => !/^[1-9]\d{0,17}$/.test(id));
    if (wrong !== undefined) program.error(`error: "${wrong}" is not a job's id`);
    return withOwnerPool(async (pool) => {
      const retried = await retryParkedJobs(pool, all ? "all" : ids);
      console.log(`${retried.length} ${retried.length === 1 ? "job is" : "jobs are"} tried again.`);
      const unknown = ids.filter((id) => !retried.includes(id));
      if (unknown.length > 0) throw new Error(`not a failed job: ${unknown.join(", ")}`);
    });
  });

async function withDatabase(
  work: (database: Database, logger: ReturnType<typeof createLogger>) => Promise<void>,
): Promise<void> {
  const configuration = readConfiguration();
  const logger = createLogger(configuration.logLevel);
  const database = await openDatabase(configuration, logger, "share");
  try {
    await work(database, logger);
  } finally {
    await database.close();
  }
}

function withOwnerPool(work: (pool: ReturnType<typeof openPool>) => Promise<void>): Promise<void> {
  return withDatabase(async (database, logger) => {
    const pool = openPool(ownerUrlOf(database), "command", 2, logger);
    try {
      await work(pool);
    } finally {
      await pool.end();
    }
  });
}

function describeSettings(): string {
  return settings
    .map(
      ({ name, description, default: value }) =>
        `  ${name.padEnd(25)}${description}${value === undefined ? "" : ` (${value})`}`,
    )
    .join("\n");
}

function checkTime(text: string): string {
  if (!/^[1-9]\d{0,5}[smhd]$/.test(text)) {
    throw new InvalidArgumentError("a number and one of s, m, h, d, for example 12h");
  }
  return text;
}

function checkJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new InvalidArgumentError("it is not JSON");
  }
}

function ready(port: number): string {
  const url = `http://localhost:${port}`;
  const birth = `{"incentive": "birth_record", "data": {"birth_date": "2021-09-15 15:30:00", "date": "2021-09-15 17:15:00"}}`;
  return `Incentives is ready on ${url}

  token=$(npx incentives token --user alice)
  curl ${url}/user/incentives -H "Authorization: Bearer $token" -H "Content-Type: application/json" -d '${birth}'
  curl ${url}/user/incentives -H "Authorization: Bearer $token"
`;
}

/** What a person can mend is said without a stack trace. */
function explain(error: unknown): string {
  if (error instanceof Problem) {
    const details = error.errors.map(({ pointer, message }) => `  ${pointer}: ${message}`);
    return [error.message, ...details].join("\n");
  }
  if (isMissingSchema(error)) {
    return "There is no schema in this database yet, or an older one. Run `npm start` or `npx incentives migrate` first.";
  }
  return error instanceof Error ? error.message : String(error);
}

/** PostgreSQL's words for a schema, table or function that is not there. */
function isMissingSchema(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  return code === "3F000" || code === "42P01" || code === "42883";
}

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`incentives: ${explain(error)}\n`);
  process.exitCode = error instanceof ConfigurationError ? 2 : 1;
}
