import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";

const checkout = dirname(import.meta.dirname);
const program = `
  const [what, ...rest] = process.argv.slice(2);
  if (what === "show") console.log(JSON.stringify({ rest, cwd: process.cwd(), path: process.env.PATH }));
  if (what === "code") process.exitCode = Number(rest[0]);
  if (what === "die") process.kill(process.pid, "SIGKILL");
  if (what === "wait") {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
      process.on(signal, () => setTimeout(() => { console.log(signal); process.exit(3); }, 200));
    }
    setInterval(() => {}, 60_000);
    console.log("ready");
  }
`;
let project: string;
const launched: ChildProcess[] = [];

beforeAll(async () => {
  project = await mkdtemp(join(await realpath(tmpdir()), "incentives launch "));
  await mkdir(join(project, "src"));
  await cp(join(checkout, "src", "launch.mjs"), join(project, "src", "launch.mjs"));
  await cp(join(checkout, "src", "launch"), join(project, "src", "launch"), { recursive: true });
  await cp(join(checkout, "package-lock.json"), join(project, "package-lock.json"));
  await symlink(join(checkout, "node_modules"), join(project, "node_modules"));
  await writeFile(join(project, "package.json"), `{ "type": "module" }`);
  await writeFile(join(project, "src", "cli.ts"), program);
});

afterEach(() => {
  for (const child of launched.splice(0)) child.kill("SIGKILL");
});

afterAll(() => rm(project, { recursive: true, force: true }));

function launch(...args: string[]): { child: ChildProcess; output: () => string } {
  const child = spawn(process.execPath, [join(project, "src", "launch.mjs"), ...args], {
    cwd: tmpdir(),
    stdio: ["ignore", "pipe", "pipe"],
  });
  launched.push(child);
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (data) => (text += data));
  return { child, output: () => text };
}

describe("the launcher", () => {
  test("hands over the arguments, the working directory and a PATH with the project's tools", async () => {
    const { child, output } = launch("show", "two words", "--only=api");
    await once(child, "close");
    const shown = JSON.parse(output()) as { rest: string[]; cwd: string; path: string };
    expect(shown.rest).toEqual(["two words", "--only=api"]);
    expect(shown.cwd).toBe(await realpath(tmpdir()));
    expect(shown.path.startsWith(join(project, "node_modules", ".bin"))).toBe(true);
  });

  test("ends with the exit code of the program", async () => {
    expect(await once(launch("code", "5").child, "close")).toEqual([5, null]);
  });

  test("ends by the signal that ended the program", async () => {
    expect(await once(launch("die").child, "close")).toEqual([null, "SIGKILL"]);
  });

  test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)(
    "passes %s on, and waits until the program has ended",
    async (signal) => {
      const { child, output } = launch("wait");
      await once(child.stdout!, "data");
      child.kill(signal);
      expect(await once(child, "close")).toEqual([3, null]);
      expect(output()).toBe(`ready\n${signal}\n`);
    },
  );

  test("refuses a tool that it does not know", async () => {
    const { child, output } = launch("--run", "anything");
    expect(await once(child, "close")).toEqual([1, null]);
    expect(output()).toContain('"jest" and "check"');
  });
});
