/**
 * Reads and validates GraphQL documents, for HTTP and WebSocket alike: the limits first, then the specification's own rules.
 * A plugin of graphql.ts. Its errors repeat no value that stood in the document, which may be health data.
 */
import { LRUCache } from "lru-cache";
import type { GrafservBase } from "postgraphile/grafserv";
import {
  GraphQLError,
  NoSchemaIntrospectionCustomRule,
  parse,
  specifiedRules,
  validate,
  ValuesOfCorrectTypeRule,
} from "postgraphile/graphql";
import type {
  DocumentNode,
  GraphQLSchema,
  ValidationContext,
  ValidationRule,
} from "postgraphile/graphql";
import { limitRules, limits } from "./limits.ts";

type Parsed =
  | { document: DocumentNode; errors?: undefined }
  | { errors: readonly GraphQLError[]; document?: undefined };

/** `introspection`: whether the schema may be asked for, and whether errors suggest names from it. */
export function documentsPlugin({
  introspection,
}: {
  introspection: boolean;
}): GraphileConfig.Plugin {
  return {
    name: "DocumentsPlugin",
    version: "1.0.0",
    schema: {
      hooks: {
        // A plan takes about a megabyte, and clients have some dozens of operations.
        GraphQLSchema: (config) => ({
          ...config,
          extensions: {
            ...config.extensions,
            grafast: {
              ...config.extensions?.grafast,
              operationsCacheMaxLength: 100,
              operationOperationPlansCacheMaxLength: 4,
            },
          },
        }),
      },
    },
    grafserv: {
      middleware: {
        setPreset(next, event) {
          const getConfig = event.getExecutionConfig;
          let reader: ReturnType<typeof createReader> | undefined;
          event.getExecutionConfig = async function (this: GrafservBase, context) {
            const config = await getConfig.call(this, context);
            if (reader?.schema !== config.schema) {
              reader = createReader(config.schema, introspection);
            }
            return { ...config, parseAndValidate: reader.read };
          };
          return next();
        },
      },
    },
  };
}

/** Keeps the documents that are good, bounded by their length: whoever sends many different ones fills no memory. */
export function createReader(schema: GraphQLSchema, introspection: boolean) {
  const rules = introspection ? openRules : [...openRules, NoSchemaIntrospectionCustomRule];
  const kept = new LRUCache<string, DocumentNode>({
    maxSize: 200_000,
    sizeCalculation: (_document, text) => text.length + 1,
  });
  function read(text: string): Parsed {
    const known = kept.get(text);
    if (known) return { document: known };
    const parsed = parseWithin(text);
    if (parsed.errors) return parsed;
    const { document } = parsed;
    // Whoever exceeds a limit is not answered by the rules whose work grows with the document.
    const errors = [limitRules, rules].reduce<readonly GraphQLError[]>(
      (found, some) => (found.length > 0 ? found : validate(schema, document, some, { maxErrors })),
      [],
    );
    if (errors.length > 0) return { errors: errors.map((error) => toClient(error, introspection)) };
    kept.set(text, document);
    return { document };
  }
  return { schema, read };
}

const maxErrors = 20;

function parseWithin(text: string): Parsed {
  try {
    return { document: parse(text, { maxTokens: limits.tokens }) };
  } catch (error) {
    if (!(error instanceof GraphQLError)) throw error;
    const { message, source, positions } = error;
    const isTooLong = message.includes("Parsing aborted");
    return {
      errors: [
        new GraphQLError(
          isTooLong
            ? `A document may have ${limits.tokens} tokens at the most.`
            : // Of a text or a number only what it is, not what it says.
              message.replace(/\b(String|BlockString|Int|Float) ".*"/s, "$1"),
          {
            source: source ?? null,
            positions: positions ?? null,
            extensions: { code: isTooLong ? "TOO_MANY_TOKENS" : "GRAPHQL_PARSE_FAILED" },
          },
        ),
      ],
    };
  }
}

/** The rule's own words repeat the value. */
function valuesOfCorrectType(context: ValidationContext): ReturnType<ValidationRule> {
  const quiet = Object.create(context) as ValidationContext;
  quiet.reportError = ({ nodes }) => {
    const type = context.getInputType();
    const message = type ? `This is no value of the type ${String(type)}.` : "This value is wrong.";
    context.reportError(new GraphQLError(message, { nodes: nodes ?? null }));
  };
  return ValuesOfCorrectTypeRule(quiet);
}

const openRules: ValidationRule[] = specifiedRules.map((rule) =>
  rule === ValuesOfCorrectTypeRule ? valuesOfCorrectType : rule,
);

function toClient(error: GraphQLError, suggestions: boolean): GraphQLError {
  const { message, nodes, extensions } = error;
  const isIntrospection = message.startsWith("GraphQL introspection has been disabled");
  const code = isIntrospection ? "INTROSPECTION_DISABLED" : "GRAPHQL_VALIDATION_FAILED";
  return new GraphQLError(suggestions ? message : message.replace(/ Did you mean .*$/s, ""), {
    nodes: nodes ?? null,
    extensions: { code, ...extensions },
  });
}
