// `npm run check`: types, lint rules and formatting, side by side. Called by the launcher. It changes no file.

import { join } from "node:path";
import { runChild } from "./run_child.mjs";

const checks = {
  tsc: ["typescript/bin/tsc"],
  oxlint: ["oxlint/bin/oxlint", "--type-aware", "--deny-warnings"],
  prettier: ["prettier/bin/prettier.cjs", "--check", "--log-level=warn", "."],
};

export async function runChecks({ root, node, env }) {
  const results = await Promise.all(
    Object.entries(checks).map(async ([name, [program, ...args]]) => {
      const path = join(root, "node_modules", program);
      const options = { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] };
      const { code, signal, output } = await runChild(node, [path, ...args], options);
      console.log(code === 0 ? `${name}: ok` : `${name}: failed\n${output.trimEnd()}\n`);
      return { code, signal };
    }),
  );
  const failed = results.find(({ code }) => code !== 0);
  return failed ?? { code: 0, signal: null };
}
