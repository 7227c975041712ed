/** The examples in docs/ are run as they stand there, against a real process, and answer what they say they answer. */
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { createTokens } from "../src/api/tokens/tokens.ts";
import { waitUntil } from "./test_database.ts";
import { jwtSecret, startTestProcess } from "./test_process.ts";
import type { TestProcess } from "./test_process.ts";

const run = promisify(execFile);
const project = path.dirname(import.meta.dirname);
const docs = path.join(project, "docs");

let app: TestProcess;
beforeAll(async () => {
  app = await startTestProcess();
});
afterAll(() => app.drop());

interface Block {
  language: string;
  text: string;
}

async function readBlocks(file: string): Promise<Block[]> {
  const text = await readFile(path.join(docs, file), "utf8");
  return [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language = "", text = ""]) => ({
    language,
    text,
  }));
}

async function environment(user: string): Promise<Record<string, string>> {
  const TOKEN = await createTokens(jwtSecret).sign(user, "1h");
  return { URL: app.url, TOKEN, PATH: process.env.PATH ?? "" };
}

/** Ids and times are other ones each time; all else is as it is written. */
function asWritten(value: unknown): unknown {
  const text = JSON.stringify(value, (key, inner: unknown) => {
    if (key === "id" && /^\d+$/.test(String(inner))) return "an id";
    return key.endsWith("_at") && typeof inner === "string" ? "a time" : inner;
  });
  return JSON.parse(text);
}

test("the example in curl answers what it says", async () => {
  const env = await environment("curl");
  const blocks = await readBlocks("curl.md");
  let answers = 0;
  for (const [index, { language, text }] of blocks.entries()) {
    if (language !== "bash") continue;
    const { stdout } = await run("bash", ["-euo", "pipefail", "-c", text], {
      env,
      timeout: 20_000,
    });
    const next = blocks[index + 1];
    if (next?.language !== "json") continue;
    expect(asWritten(JSON.parse(stdout))).toEqual(asWritten(JSON.parse(next.text)));
    answers++;
  }
  expect(answers).toBe(4);
});

describe("the example in TypeScript", () => {
  let folder: string;
  let file: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "incentives docs "));
    await symlink(path.join(project, "node_modules"), path.join(folder, "node_modules"));
    await writeFile(path.join(folder, "package.json"), '{"type": "module"}');
    const blocks = await readBlocks("typescript.md");
    file = path.join(folder, "example.ts");
    const code = blocks.filter(({ language }) => language === "ts").map(({ text }) => text);
    await writeFile(file, code.join("\n"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test("runs, wins, and is refused where it says so", async () => {
    const { stdout } = await run(process.execPath, [file], {
      env: await environment("typescript"),
      timeout: 20_000,
    });
    expect(stdout).toContain("won [ { amount: '100.00', unit: 'points' } ]");
    expect(stdout).toMatch(/refused .*"pointer":"\/data\/date"/);
  });

  test("has no error of type", async () => {
    const compiler = path.join(project, "node_modules", "typescript", "bin", "tsc");
    const config = {
      extends: path.join(project, "tsconfig.json"),
      compilerOptions: { noEmit: true, rootDir: folder, typeRoots: ["node_modules/@types"] },
      include: ["example.ts"],
    };
    await writeFile(path.join(folder, "tsconfig.json"), JSON.stringify(config));
    const { stdout } = await run(process.execPath, [compiler, "-p", folder]).catch(
      (error: { stdout: string }) => error,
    );
    expect(stdout).toBe("");
  });
});

test("the pages of a list come one after the other", async () => {
  const user = "pages";
  const birth = { birth_date: "2021-09-15 15:30:00", date: "2021-09-15 17:15:00" };
  await app.ask("/user/incentives", { user, body: { incentive: "birth_record", data: birth } });
  await app.database.pool.query(
    `insert into app.user_rewards (user_id, user_incentive_id, reward_id, amount, unit)
    select 'pages', ui.id, reward.id, 1, 'points'
    from app.user_incentives as ui, app.rewards as reward
    where ui.user_id = 'pages' and reward.key = 'log_points'`,
  );
  await waitUntil("the birth is rewarded too", async () => {
    const { body } = await app.ask("/user/rewards", { user });
    return body.rewards.length === 2;
  });
  const [block] = await readBlocks("pages.md");
  const ids: string[] = [];
  for (let after = null, more = true; more;) {
    const { body } = await app.graphql(user, block!.text, { after });
    const { nodes, pageInfo } = body.data.userRewards;
    ids.push(...nodes.map(({ id }: { id: string }) => id));
    after = pageInfo.endCursor;
    more = pageInfo.hasNextPage;
  }
  expect(new Set(ids).size).toBe(2);
  expect(ids).toHaveLength(2);
});

test("every code of an error is listed, and every listed one is given", async () => {
  const folder = path.join(project, "src", "api");
  const files = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith(".ts"));
  const sources = await Promise.all(files.map((name) => readFile(path.join(folder, name), "utf8")));
  const given = sources.flatMap((source) =>
    [...source.matchAll(/new Problem\(\s*(\d{3}),\s*"([^"]+)"/g)].map(
      ([, status, title = ""]) => `${status} ${title.toUpperCase().replaceAll(" ", "_")}`,
    ),
  );
  const listed = [
    ...(await readFile(path.join(docs, "errors.md"), "utf8")).matchAll(/^\| (\d{3}) +\| `(\w+)`/gm),
  ].map(([, status, code]) => `${status} ${code}`);
  expect(listed).toEqual([...new Set(given)].sort((a, b) => listed.indexOf(a) - listed.indexOf(b)));
});

test("every link to a file leads to one", async () => {
  const files = await readdir(docs);
  for (const name of files) {
    const text = await readFile(path.join(docs, name), "utf8");
    const links = [...text.matchAll(/\]\((?!https:)([^)#]+)/g)].map(([, target]) => target);
    expect(links.filter((target) => !files.includes(target!))).toEqual([]);
  }
});
