#!/usr/bin/env node
// The package's bin, and what `npm start`, `npm test` and `npm run check` call. Any Node from 18 on can read it. It makes
// sure that the packages are there, finds the Node that the lockfile pins, and hands over: terminal, working directory,
// arguments, signals and exit code are the child's. It must never do any of the program's own work.

import { existsSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { installPackages } from "./launch/install_packages.mjs";
import { runChild } from "./launch/run_child.mjs";
import { runChecks } from "./launch/run_checks.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const quietly = "--disable-warning=ExperimentalWarning";

function findNode() {
  const platform = process.platform === "win32" ? "win" : process.platform;
  const program = process.platform === "win32" ? "node.exe" : "node";
  const packaged = join(root, "node_modules", `node-${platform}-${process.arch}`, "bin", program);
  if (existsSync(packaged)) return packaged;
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > 22 || (major === 22 && minor >= 18)) return process.execPath;
  throw new Error(
    `No packaged Node 24 was found for ${process.platform} ${process.arch}, and this is Node ${process.versions.node}.\n` +
      `Install Node 24 and run the command with it; or, if packages were installed with --omit=optional, delete node_modules.`,
  );
}

function childEnvironment() {
  const name = Object.keys(process.env).find((key) => key.toUpperCase() === "PATH") ?? "PATH";
  const path = [join(root, "node_modules", ".bin"), process.env[name]].filter(Boolean);
  return { ...process.env, [name]: path.join(delimiter) };
}

async function main() {
  const [first, tool, ...rest] = process.argv.slice(2);
  const forDevelopment = first === "--run";
  if (forDevelopment && !["bench", "jest", "check"].includes(tool)) {
    throw new Error(`--run knows "bench", "jest" and "check", not "${tool ?? ""}".`);
  }
  await installPackages({ root, forDevelopment });
  const node = findNode();
  const options = { stdio: "inherit", env: childEnvironment() };
  if (tool === "check" && forDevelopment) return runChecks({ root, node, env: options.env });
  if (tool === "bench" && forDevelopment) {
    return runChild(node, [quietly, join(root, "test", "bench", "bench.ts"), ...rest], options);
  }
  if (forDevelopment) {
    const jest = join(root, "node_modules", "jest", "bin", "jest.js");
    const flags = ["--experimental-vm-modules", quietly];
    return runChild(node, [...flags, jest, ...rest], { ...options, cwd: root });
  }
  return runChild(node, [quietly, join(root, "src", "cli.ts"), ...process.argv.slice(2)], options);
}

try {
  const { code, signal } = await main();
  if (signal) process.kill(process.pid, signal);
  else process.exitCode = code;
} catch (error) {
  console.error(error.message);
  process.exitCode = error.exitCode ?? 1;
}
