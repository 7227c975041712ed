/**
 * What may be said of an error whose message may repeat a member's data, as PostgreSQL's do: its class and code.
 * Example: `error 22P02`, `TypeError`.
 */
export function errorClass(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  const code = "code" in error && typeof error.code === "string" ? ` ${error.code}` : "";
  return error.name + code;
}
