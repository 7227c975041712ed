/** The house rules that are about files: each test names the offenders, and there are none. */
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, test } from "@jest/globals";
import { buildTasks } from "../src/worker/tasks.ts";

const project = path.dirname(import.meta.dirname);

async function read(folder: string, ending: string): Promise<{ file: string; text: string }[]> {
  const names = await readdir(path.join(project, folder), { recursive: true });
  return Promise.all(
    names
      .filter((name) => name.endsWith(ending))
      .map(async (name) => ({
        file: path.join(folder, name),
        text: await readFile(path.join(project, folder, name), "utf8"),
      })),
  );
}

function found(texts: { text: string }[], pattern: RegExp): string[] {
  return [
    ...new Set(
      texts.flatMap(({ text }) => [...text.matchAll(pattern)].map(([, name]) => name ?? "")),
    ),
  ].sort();
}

describe("the files keep the house rules:", () => {
  test("only configuration.ts reads process.env", async () => {
    const offenders = (await read("src", ".ts")).filter(({ text }) => text.includes("process.env"));
    expect(offenders.map(({ file }) => file)).toEqual(["src/configuration.ts"]);
  });

  test("every task the database names is there, and every task in a file of its name declares its payload", async () => {
    const sql = await read("db/migrations/committed", ".sql");
    const code = await read("src", ".ts");
    const named = found(
      [...sql, ...code],
      /(?:add_job\(\s*|task_identifier = |row\(\s*)'([a-z_]+)'/g,
    );
    const tasks = Object.keys(
      buildTasks({
        pool: undefined as never,
        evaluators: new Map(),
        judges: undefined as never,
        judgesAlone: undefined as never,
        listeners: new Map(),
        logger: undefined as never,
        stopping: new AbortController().signal,
        outOfTime: new AbortController().signal,
      }),
    );
    expect(named).toEqual([
      "deliver_events",
      "deliver_incentive_completed",
      "evaluate_again",
      "evaluate_incentive",
      "evaluate_incentives",
    ]);
    expect(tasks).toEqual(expect.arrayContaining(named));
    expect(found(code, /^ {6}([a-z_]+): [^;]+;$(?=[^}]*}\s+}\s+})/gm)).toEqual(tasks.toSorted());
  });

  test("every error code that is raised is listed, and every listed one is raised", async () => {
    const raised = found(await read("db/migrations/committed", ".sql"), /errcode = '(IN\d{3})'/g);
    const listed = found(await read("db", "CONVENTIONS.md"), /^\| (IN\d{3}) \|/gm);
    expect(listed).toEqual(raised);
  });

  test("every setting that is read is described in the README", async () => {
    const { settings } = await import("../src/configuration.ts");
    const readme = await readFile(path.join(project, "README.md"), "utf8");
    expect(settings.filter(({ name }) => !readme.includes(`\`${name}\``))).toEqual([]);
  });
});
