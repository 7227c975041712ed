/** The examples of docs/live.md are run as they stand there, and are told of a completion. */
import { execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { tokenOf } from "./live_clients.ts";
import { waitUntil } from "./test_database.ts";
import { startTestProcess } from "./test_process.ts";
import type { TestProcess } from "./test_process.ts";

const project = path.dirname(import.meta.dirname);
const names = ["websocket", "events"];

let app: TestProcess;
let folder: string;
beforeAll(async () => {
  app = await startTestProcess();
  folder = await mkdtemp(path.join(tmpdir(), "incentives docs "));
  await symlink(path.join(project, "node_modules"), path.join(folder, "node_modules"));
  await writeFile(path.join(folder, "package.json"), '{"type": "module"}');
  const text = await readFile(path.join(project, "docs", "live.md"), "utf8");
  const blocks = [...text.matchAll(/^```ts\n(.*?)^```$/gms)];
  expect(blocks).toHaveLength(names.length);
  for (const [at, name] of names.entries()) {
    await writeFile(path.join(folder, `${name}.ts`), blocks[at]?.[1] ?? "");
  }
});
afterAll(async () => {
  await rm(folder, { recursive: true });
  await app.drop();
});

test.each(names)("the example of %s is told", async (name) => {
  const user = `docs ${name}`;
  const TOKEN = (await tokenOf(user)).replace("Bearer ", "");
  const child = spawn(process.execPath, [path.join(folder, `${name}.ts`)], {
    env: { URL: app.url, TOKEN },
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  child.stdout.on("data", (data: Buffer) => (said += data.toString()));
  try {
    await waitUntil("it is connected", async () => said.includes("connected\n"));
    const data = { birth_date: "2021-09-15 15:30:00", date: "2021-09-15 17:15:00" };
    // The subscription follows right after the connection; what is asked for after that is told.
    await app.graphql(user, "{ userIncentives(first: 1) { nodes { id } } }");
    await app.ask("/user/incentives", { user, body: { incentive: "birth_record", data } });
    await waitUntil("it is told", async () => said.includes("completed birth_record\n"));
  } finally {
    child.kill();
  }
});

test("the examples have no error of type", async () => {
  const config = {
    extends: path.join(project, "tsconfig.json"),
    compilerOptions: { noEmit: true, rootDir: folder, typeRoots: ["node_modules/@types"] },
    include: ["*.ts"],
  };
  await writeFile(path.join(folder, "tsconfig.json"), JSON.stringify(config));
  const compiler = path.join(project, "node_modules", "typescript", "bin", "tsc");
  const { stdout } = await promisify(execFile)(process.execPath, [compiler, "-p", folder]).catch(
    (error: { stdout: string }) => error,
  );
  expect(stdout).toBe("");
});
