/** The least that a server of node:http can do: it answers everybody the same bytes. */
import { createServer } from "node:http";
import { serve } from "./serve.ts";

export interface ConstantAnswerOptions {
  port: number;
  answer: string;
}

await serve(async ({ port, answer }: ConstantAnswerOptions) => {
  const body = Buffer.from(answer);
  createServer((_request, response) => {
    response.writeHead(200, { "Content-Type": "application/json", "Content-Length": body.length });
    response.end(body);
  }).listen(port, "127.0.0.1");
  return async () => {};
});
