// Jest's transformer for .ts: the same type stripping Node does at run time, so that a test runs what production runs.
import { stripTypeScriptTypes } from "node:module";

export default { process: (source) => ({ code: stripTypeScriptTypes(source) }) };
