/** What nobody caught, in a process of its own. */
import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "@jest/globals";

async function letSlip(what: string): Promise<{ out: string; code: number }> {
  const script = path.join(import.meta.dirname, "unhandled_process.ts");
  return promisify(execFile)(process.execPath, [
    "--disable-warning=ExperimentalWarning",
    script,
    what,
  ]).then(
    ({ stdout }) => ({ out: stdout.trim(), code: 0 }),
    (error: { stdout: string; code: number }) => ({ out: error.stdout.trim(), code: error.code }),
  );
}

describe("an error that nobody caught", () => {
  test("starts the worker again when a connection of a library broke", async () => {
    const { out, code } = await letSlip("connection");
    expect(out).toMatch(/^restart: unhandled \w*Error ECONNREFUSED$/);
    expect(code).toBe(0);
  });

  test("ends the process in order, with exit code 1, when it is our own", async () => {
    expect(await letSlip("ours")).toEqual({ out: "ended in order", code: 1 });
  });
});
