import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { Type } from "typebox";
import { compileEvaluator, loadEvaluators } from "../../src/evaluation/registry.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "registry-"));
});
afterEach(() => rm(folder, { recursive: true }));

const source = (name: string, dataSchema = '{ type: "object" }') => `
  export const evaluator = {
    name: "${name}",
    dataSchema: ${dataSchema},
    criteriaSchema: { type: "object" },
    evaluate: () => ({ status: "completed", progress: 1, explanation: [] }),
  };`;

describe("The registry", () => {
  test("holds every evaluator of the project, and what each records", async () => {
    const registry = await loadEvaluators();
    expect([...registry].map(([name, { records }]) => [name, records])).toEqual([
      ["birth_record", "document"],
      ["health_data_log", "log"],
    ]);
  });

  test("finds an evaluator by its place", async () => {
    await writeFile(path.join(folder, "walk.ts"), source("walk"));
    await writeFile(path.join(folder, "notes.md"), "not an evaluator");
    expect([...(await loadEvaluators(folder)).keys()]).toEqual(["walk"]);
  });

  test.each([
    ["has another name than its file", source("run"), /walk\.ts.*name.*"walk"/],
    ["exports no evaluator", "export const other = 1;", /walk\.ts must export `evaluator`/],
    [
      "has a schema that is none",
      source("walk", '{ type: "objekt" }'),
      /walk\.ts: `evaluator\.dataSchema`/,
    ],
    ["has a schema with an unknown keyword", source("walk", "{ minimun: 1 }"), /walk\.ts.*minimun/],
  ])("refuses, by its file's name, one that %s", async (_, text, message) => {
    await writeFile(path.join(folder, "walk.ts"), text);
    await expect(loadEvaluators(folder)).rejects.toThrow(message);
  });

  test("refuses an evaluator that cannot evaluate", () => {
    const evaluator = {
      name: "walk",
      dataSchema: Type.Object({}),
      criteriaSchema: Type.Object({}),
    };
    expect(() => compileEvaluator(evaluator as never)).toThrow(
      "src/evaluators/walk.ts: `evaluator.evaluate` must be a function",
    );
  });
});
