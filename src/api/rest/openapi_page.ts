/**
 * The OpenAPI document as a page to read, for development: plain HTML that loads nothing from anywhere, so that it can be read
 * offline. Called by openapi_routes.ts.
 */
import type { OpenapiDocument } from "./openapi.ts";
import type { Answer } from "./openapi_answers.ts";
import type { Operation } from "./openapi_paths.ts";

export function openapiPage({ info, paths, components }: OpenapiDocument): string {
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => describe(method, path, operation)),
  );
  const schemas = Object.entries(components.schemas).map(
    ([name, schema]) => `<h3 id="${escape(name)}">${escape(name)}</h3>${code(schema)}`,
  );
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escape(info.title)}</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
pre { background: #f4f4f4; padding: .5rem; overflow-x: auto; font-size: .85rem }
h2 { margin-top: 3rem } td { vertical-align: top; padding-right: 1rem } summary { cursor: pointer }
</style>
<h1>${escape(info.title)}</h1>
<p>${escape(info.description)} For tools: <a href="/openapi.json">openapi.json</a>.</p>
${operations.join("\n")}
<h2>Schemas</h2>
${schemas.join("\n")}
</html>
`;
}

function describe(method: string, path: string, operation: Operation): string {
  const { summary, description, parameters, requestBody, responses } = operation;
  const answers = Object.entries(responses).map(
    ([status, answer]) => `<tr><td><b>${status}</b></td><td>${describeAnswer(answer)}</td></tr>`,
  );
  return `<h2><code>${method.toUpperCase()} ${escape(path)}</code></h2>
<p><b>${escape(summary)}.</b> ${escape(description ?? "")}</p>
${parameters ? `<p>Parameters:</p>${code(parameters)}` : ""}
${requestBody ? `<p>Body:</p>${code(requestBody)}` : ""}
<table>${answers.join("")}</table>`;
}

function describeAnswer({ description, headers, content }: Answer): string {
  const also = headers || content;
  const more = also
    ? `<details><summary>more</summary>${code({ headers, content })}</details>`
    : "";
  return escape(description) + more;
}

/** A reference to a schema leads to it. */
function code(value: unknown): string {
  const text = escape(JSON.stringify(value, null, 2));
  return `<pre>${text.replaceAll(/#\/components\/schemas\/(\w+)/g, '<a href="#$1">$1</a>')}</pre>`;
}

function escape(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
