/**
 * What may be said of an error whose message may repeat a member's data, as PostgreSQL's do: its class and code.
 * Example: `error 22P02`, `TypeError`.
 */
export function errorClass(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  const code = "code" in error && isWord(error.code) ? ` ${error.code}` : "";
  return (isWord(error.name) ? error.name : "Error") + code;
}

/** An adapter may throw anything, also an error whose name or code repeats what a member recorded. */
function isWord(text: unknown): text is string {
  return typeof text === "string" && /^\w{1,50}$/.test(text);
}
