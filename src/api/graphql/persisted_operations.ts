/**
 * Operations that clients name instead of sending: one file each, `<name>.graphql`, read and validated at start. A plugin of
 * graphql.ts when PERSISTED_OPERATIONS_DIR is set. Our own, because the library prints what it refuses, variables and all.
 */
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { SafeError } from "postgraphile/grafast";
import type { GraphQLSchema } from "postgraphile/graphql";
import { createReader } from "./documents.ts";

export interface PersistedOperations {
  byName: ReadonlyMap<string, string>;
  /** Whether an operation that is sent instead of named is refused. */
  only: boolean;
}

/** Throws when the folder cannot be read. */
export async function readPersistedOperations(
  folder: string,
  only: boolean,
): Promise<PersistedOperations> {
  const files = (await readdir(folder)).filter((name) => name.endsWith(".graphql"));
  const read = async (file: string) =>
    [path.basename(file, ".graphql"), await readFile(path.join(folder, file), "utf8")] as const;
  return { byName: new Map(await Promise.all(files.map(read))), only };
}

/** Throws an error that names the first file that cannot be executed, and why. */
export function checkPersistedOperations(
  { byName }: PersistedOperations,
  schema: GraphQLSchema,
): void {
  const reader = createReader(schema, true);
  for (const [name, text] of byName) {
    const problem = reader.read(text).errors?.[0];
    if (problem) {
      throw new Error(
        `PERSISTED_OPERATIONS_DIR: ${name}.graphql cannot be used: ${problem.message}`,
      );
    }
  }
}

interface Body {
  query: unknown;
  documentId: unknown;
  id: unknown;
  extensions: unknown;
}

export function persistedOperationsPlugin({
  byName,
  only,
}: PersistedOperations): GraphileConfig.Plugin {
  return {
    name: "PersistedOperationsPlugin",
    version: "1.0.0",
    grafserv: {
      middleware: {
        processGraphQLRequestBody(next, { body }) {
          const name = nameOf(body);
          if (name !== undefined) body.query = byName.get(name) ?? refuse(notFound);
          else if (only) refuse(notAllowed);
          return next();
        },
      },
    },
  };
}

/** As `documentId` (GraphQL over HTTP), `id`, or in the extension that Apollo and urql use. */
function nameOf({ documentId, id, extensions }: Body): string | undefined {
  const { persistedQuery } = (extensions ?? {}) as { persistedQuery?: { sha256Hash?: unknown } };
  return [documentId, id, persistedQuery?.sha256Hash].find((name) => typeof name === "string");
}

const notFound = ["PERSISTED_OPERATION_NOT_FOUND", "There is no persisted operation of this name."];
const notAllowed = [
  "PERSISTED_OPERATIONS_ONLY",
  "Name a persisted operation by `documentId`; others are not executed here.",
];

function refuse([code, message]: string[]): never {
  throw new SafeError(message ?? "", { statusCode: 400, code });
}
