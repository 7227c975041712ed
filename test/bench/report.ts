/** What a run prints and writes. Called by bench.ts with the rows of one suite. */
import { writeFile } from "node:fs/promises";
import type { Row } from "./statistics.ts";

const columns = ["measure", "beside", "median", "min..max", "bar", "holds"] as const;

export function toTable(rows: Row[]): string {
  const lines = rows.map((row) => [
    row.measure,
    row.beside,
    short(row.median),
    `${short(row.min)}..${short(row.max)}`,
    row.bar,
    row.holds ? "yes" : "NO",
  ]);
  const all = [[...columns], ...lines];
  const widths = columns.map((_, column) => Math.max(...all.map((line) => line[column]!.length)));
  return all
    .map((line) => line.map((cell, column) => cell.padEnd(widths[column]!)).join("  "))
    .join("\n");
}

export async function writeJson(file: string, rows: Row[]): Promise<void> {
  const rounded = rows.map((row) => ({
    ...row,
    median: Number(short(row.median)),
    min: Number(short(row.min)),
    max: Number(short(row.max)),
  }));
  await writeFile(file, `${JSON.stringify(rounded, undefined, 2)}\n`);
}

/** While it runs, on standard error. */
export function say(line: string): void {
  console.error(line);
}

function short(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 3);
}
