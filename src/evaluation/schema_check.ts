/**
 * A JSON schema, compiled once, and what does not fit it as problems that can be shown. Made by the registry for every
 * evaluator's two schemas. No message repeats a value; `problems` may name an unknown property in a pointer,
 * `firstProblem` names none.
 */
import { Ajv2020 } from "ajv/dist/2020.js";
import type { ErrorObject } from "ajv/dist/2020.js";
import type { TSchema } from "typebox";
import type { Problem } from "./evaluator.ts";

export interface SchemaCheck {
  /** For judging: stops at the first, so that no data, however wrong, makes it slow. */
  firstProblem(value: unknown): Problem | undefined;
  /** For a client, who wants to mend all of them at once: the first 20. */
  problems(value: unknown): Problem[];
}

export const problemsAtMost = 20;

// `verbose` puts the schema's description within reach of the message.
const options = { strict: true, allowUnionTypes: true, verbose: true, logger: false } as const;
const upToTheFirst = new Ajv2020({ ...options, allErrors: false });
const allOfThem = new Ajv2020({ ...options, allErrors: true });

/** Throws when it is not a schema, or holds a keyword that is not known. */
export function compileSchema(schema: TSchema): SchemaCheck {
  const fits = upToTheFirst.compile(schema);
  const fitsThroughout = allOfThem.compile(schema);
  return {
    firstProblem(value) {
      if (fits(value)) return undefined;
      const [error] = fits.errors ?? [];
      return { pointer: error?.instancePath ?? "", message: messageOf(error) };
    },
    problems(value) {
      if (fitsThroughout(value)) return [];
      const errors = fitsThroughout.errors ?? [];
      return errors.slice(0, problemsAtMost).map(nameProperty);
    },
  };
}

/** `parent` extended by a property's name or a position. */
export function pointerTo(parent: string, name: string): string {
  return `${parent}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`;
}

/** The pointer goes to the property itself, be it missing or unknown. */
function nameProperty(error: ErrorObject): Problem {
  const { missingProperty, additionalProperty } = error.params as Record<string, unknown>;
  if (typeof missingProperty === "string") {
    return { pointer: pointerTo(error.instancePath, missingProperty), message: "is missing" };
  }
  if (typeof additionalProperty === "string") {
    return { pointer: pointerTo(error.instancePath, additionalProperty), message: "is not known" };
  }
  return { pointer: error.instancePath, message: messageOf(error) };
}

/** Ajv's own messages name what the schema asks for, never what was found. A pattern says little to a person, so a schema
 * with one has a description that follows on "must be". */
function messageOf(error: ErrorObject | undefined): string {
  const description: unknown = error?.parentSchema?.description;
  if (error?.keyword === "pattern" && typeof description === "string") {
    return `must be ${description}`;
  }
  return error?.message ?? "does not fit";
}
