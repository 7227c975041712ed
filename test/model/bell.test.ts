/**
 * The model of the bell's protocol, checked by Spin (Debian's packages spin and gcc): the protocol holds, and each variant
 * that leaves one of its steps out is refuted. Where Spin is not installed this is skipped, except in CI.
 */
import { execFile, execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";

const run = promisify(execFile);
const model = path.join(import.meta.dirname, "bell.pml");

function isInstalled(): boolean {
  try {
    execFileSync("spin", ["-V"]);
    execFileSync("gcc", ["--version"]);
    return true;
  } catch {
    return false;
  }
}

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "bell-model-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** How many errors Spin finds: 0 when every interleaving was tried and none leaves a row. */
async function errorsOf(...defined: string[]): Promise<number> {
  await run("spin", [...defined.map((name) => `-D${name}`), "-a", model], { cwd: folder });
  await run("gcc", ["-O2", "-DSAFETY", "-DCOLLAPSE", "-w", "-o", "pan", "pan.c"], { cwd: folder });
  const { stdout } = await run("./pan", ["-m1000000", "-n"], { cwd: folder });
  if (/max search depth too small|out of memory/.test(stdout))
    throw new Error("not searched whole");
  return Number(/errors: (\d+)/.exec(stdout)?.[1] ?? Number.NaN);
}

(isInstalled() || process.env.CI ? describe : describe.skip)("the bell's protocol", () => {
  test.each(["TROUBLE", "AGAIN"])(
    "leaves no row behind in any interleaving with %s",
    async (part) => {
      expect(await errorsOf(part)).toBe(0);
    },
  );

  test.each([
    ["TROUBLE", "END_AT_ONCE"],
    ["TROUBLE", "ASK_AT_START"],
    ["TROUBLE", "ASK_AWAKE"],
    ["TROUBLE", "RELIEVE_AT_ONCE"],
    ["TROUBLE", "RELY_ON_RINGER"],
    ["TROUBLE", "STRICT_LOOKS"],
    ["AGAIN", "TRUST_LAST_LOOK"],
  ])("leaves one behind with %s and %s", async (part, variant) => {
    expect(await errorsOf(part, variant)).toBe(1);
  });
});
