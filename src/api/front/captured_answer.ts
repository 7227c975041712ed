/**
 * Looks at an answer before it is sent. Called by answer_from_memory.ts for a response that Express is about to write; what
 * is written bit by bit is sent as it comes, and never captured.
 */
import { createHash } from "node:crypto";
import type { ServerResponse } from "node:http";
import type { Answer } from "../../cache/answers.ts";

type Loose = (...args: unknown[]) => ServerResponse;

/**
 * `look` is called once, with the answer if it is a whole one of status 200, and returns whether it has sent it. Otherwise it
 * is sent as it was written.
 */
export function captureAnswer(
  response: ServerResponse,
  look: (answer: Answer | undefined) => boolean,
): void {
  const original = {
    writeHead: response.writeHead.bind(response) as Loose,
    write: response.write.bind(response) as unknown as Loose,
    end: response.end.bind(response) as Loose,
  };
  /** What was given to writeHead, which waits for the end. */
  let head: unknown[] | undefined;
  const release = (): void => {
    Object.assign(response, original);
    if (head) original.writeHead(...head);
  };
  response.writeHead = ((...args: unknown[]) => {
    head = args;
    return response;
  }) as typeof response.writeHead;
  response.write = ((...args: unknown[]) => {
    look(undefined);
    release();
    return original.write(...args);
  }) as unknown as typeof response.write;
  response.end = ((...args: unknown[]) => {
    const answer = answerOf(response, head, args[0]);
    Object.assign(response, original);
    if (look(answer)) return response;
    release();
    return original.end(...args);
  }) as typeof response.end;
}

function answerOf(
  response: ServerResponse,
  head: unknown[] | undefined,
  chunk: unknown,
): Answer | undefined {
  const [status = response.statusCode, ...rest] = head ?? [];
  if (status !== 200 || !(typeof chunk === "string" || Buffer.isBuffer(chunk))) return undefined;
  const body = Buffer.from(chunk);
  const contentType = contentTypeOf(rest.at(-1)) ?? response.getHeader("content-type");
  if (typeof contentType !== "string") return undefined;
  response.removeHeader("content-type");
  response.removeHeader("content-length");
  return { body, contentType, etag: etagOf(contentType, body) };
}

function contentTypeOf(headers: unknown): string | undefined {
  if (typeof headers !== "object" || headers === null) return undefined;
  const found = Object.entries(headers).find(([name]) => name.toLowerCase() === "content-type");
  return found && String(found[1]);
}

/** Strong: of the very bytes, and of what they are said to be. */
function etagOf(contentType: string, body: Buffer): string {
  const hash = createHash("sha256").update(`${contentType}\0`).update(body).digest("base64url");
  return `"${hash.slice(0, 27)}"`;
}
