/**
 * What `jsonb` cannot keep, or nobody should nest. Asked before data is recorded, so that a client is told where, instead of
 * PostgreSQL refusing the whole. It must get through any JSON value, however deep: it does not call itself.
 */
import type { Problem } from "./evaluator.ts";
import { pointerTo, problemsAtMost } from "./schema_check.ts";

const levelsAtMost = 32;

/** The first 20 places, those nearest the root first. */
export function findUnstorable(data: unknown): Problem[] {
  const problems: Problem[] = [];
  const found = [{ value: data, pointer: "", level: 1 }];
  // The loop goes on over what is appended while it runs.
  for (const { value, pointer, level } of found) {
    if (problems.length >= problemsAtMost) break;
    const message = whyUnstorable(value, level);
    if (message !== undefined) problems.push({ pointer, message });
    else if (typeof value === "object" && value !== null) {
      for (const [name, child] of Object.entries(value)) {
        const place = pointerTo(pointer, name);
        if (!isStorable(name))
          problems.push({ pointer: place, message: `has a name ${unstorable}` });
        found.push({ value: child, pointer: place, level: level + 1 });
      }
    }
  }
  return problems.slice(0, problemsAtMost);
}

const unstorable = "with U+0000 or half a surrogate pair, which cannot be stored";

function whyUnstorable(value: unknown, level: number): string | undefined {
  if (typeof value === "string" && !isStorable(value)) return `is a text ${unstorable}`;
  if (typeof value === "number" && !Number.isFinite(value)) return "is too large a number";
  if (typeof value === "object" && value !== null && level > levelsAtMost) {
    return `is nested deeper than ${levelsAtMost} levels`;
  }
  return undefined;
}

function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes("\0");
}
