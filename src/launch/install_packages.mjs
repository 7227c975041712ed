// Installs the packages of package-lock.json when they are missing, old, or were left half installed. Called by the
// launcher before anything else, so it may import nothing but Node's own modules. One process installs at a time: the file
// `.installing` in the project is its sign, with npm's process id in it, and touched every second, so that a killed one is
// noticed.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { runChild } from "./run_child.mjs";

const oldAfter = 5_000;
const veryOldAfter = 600_000;

export async function installPackages({ root, forDevelopment }) {
  if (areInstalled({ root, forDevelopment })) return;
  const { release, nameNpm } = await becomeInstaller(root);
  try {
    if (areInstalled({ root, forDevelopment })) return; // by the one we waited for
    console.error("Installing packages (once) …");
    await install({ root, forDevelopment, nameNpm });
  } finally {
    await release();
  }
}

// npm writes node_modules/.package-lock.json last, so an interrupted install has none.
function areInstalled({ root, forDevelopment }) {
  const installed = readPackages(join(root, "node_modules", ".package-lock.json"));
  const wanted = readPackages(join(root, "package-lock.json"));
  if (!wanted) throw new Error(`${join(root, "package-lock.json")} cannot be read. Restore it.`);
  return Object.entries(wanted).every(([path, { version, optional, dev, devOptional }]) => {
    if (path === "") return true;
    const found = installed?.[path];
    if (found) return found.version === version && existsSync(join(root, path, "package.json"));
    // Packages of other platforms are absent on purpose; those for development may be.
    return installed && (optional || devOptional || (dev && !forDevelopment));
  });
}

function readPackages(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8")).packages;
  } catch {
    return undefined;
  }
}

async function becomeInstaller(root) {
  const sign = join(root, ".installing");
  for (let said = false; ; said = true) {
    try {
      await writeFile(sign, "", { flag: "wx" });
      break;
    } catch (error) {
      if (error.code !== "EEXIST") {
        throw new Error(
          `Packages must be installed, but ${root} cannot be written to: ${error.message}`,
        );
      }
    }
    if (!said) console.error("Waiting for another process that is installing the packages …");
    await sleep(250 + Math.random() * 250);
    if (await isAbandoned(sign)) await rm(sign, { force: true });
  }
  const beat = setInterval(() => utimes(sign, new Date(), new Date()).catch(() => {}), 1_000);
  const release = async () => {
    clearInterval(beat);
    await rm(sign, { force: true });
  };
  return { release, nameNpm: (pid) => writeFileSync(sign, String(pid)) };
}

// npm may outlive the launcher that started it; two at once would spoil each other's work.
async function isAbandoned(sign) {
  try {
    const age = Date.now() - (await stat(sign)).mtimeMs;
    if (age < oldAfter) return false;
    return age > veryOldAfter || !isAlive(Number(await readFile(sign, "utf8")));
  } catch {
    return false; // gone: the one who installed is done
  }
}

function isAlive(pid) {
  try {
    return pid > 0 && process.kill(pid, 0);
  } catch (error) {
    return error.code === "EPERM";
  }
}

// What `npm ci` does, which itself refuses a lockfile that lacks an optional package of any other platform: begin with
// nothing, take the locked versions, leave the lockfile alone.
async function install({ root, forDevelopment, nameNpm }) {
  await rm(join(root, "node_modules"), { recursive: true, force: true });
  const args = ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"];
  if (forDevelopment) args.push("--include=dev");
  const windows = process.platform === "win32";
  const { code, signal, output } = await runChild("npm", args, {
    cwd: root,
    env: environmentWithoutOurNode(root),
    shell: windows, // npm is a .cmd there
    stdio: ["ignore", "pipe", "pipe"],
    onSpawn: nameNpm,
  }).catch((error) => {
    throw new Error(
      `npm could not be started (${error.message}). Install npm, or put it on the PATH.`,
    );
  });
  if (code === 0) return;
  const reason = signal ? `was stopped by ${signal}` : `failed with exit code ${code}`;
  throw new Error(`${output}\n"npm install" ${reason}. The next start tries again.`);
}

// npm would run on the Node inside node_modules, which it is about to delete.
function environmentWithoutOurNode(root) {
  const bin = join(root, "node_modules", ".bin");
  const entries = Object.entries(process.env).map(([name, value]) => {
    if (name.toUpperCase() !== "PATH") return [name, value];
    return [
      name,
      value
        .split(delimiter)
        .filter((folder) => folder !== bin)
        .join(delimiter),
    ];
  });
  return Object.fromEntries(entries);
}
