/** A worker as it runs in real life, a process of its own, that a test can kill, stop and listen to. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";

const cli = path.join(import.meta.dirname, "..", "..", "src", "cli.ts");

interface Line {
  msg?: string;
  eventId?: string;
  level?: number;
}

export class WorkerProcess {
  readonly child: ChildProcess;
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** What it said at the level of a warning and above. */
  readonly complaints: string[] = [];

  private constructor(databaseUrl: string, heard: Set<string>) {
    this.child = spawn(
      process.execPath,
      ["--disable-warning=ExperimentalWarning", cli, "start", "--only", "worker"],
      {
        env: {
          PATH: process.env.PATH,
          DATABASE_URL: databaseUrl,
          LOG_LEVEL: "info",
          // Never while a test runs: what it leaves behind is not the worker's.
          CACHE_REFRESH_CRON: "0 0 29 2 *",
        },
        stdio: ["ignore", "pipe", "pipe"],
      },
    );
    this.ended = once(this.child, "exit").then(([code, signal]) => ({ code, signal }));
    createInterface({ input: this.child.stderr! }).on("line", (text) => {
      const line = readLine(text);
      if (line.msg === "IncentiveCompleted" && line.eventId) heard.add(line.eventId);
      else if ((line.level ?? 60) >= 40) this.complaints.push(text);
    });
  }

  /** Resolves when it is ready. `heard` collects the ids of the events that its listener was called for. */
  static async start(databaseUrl: string, heard = new Set<string>()): Promise<WorkerProcess> {
    const worker = new WorkerProcess(databaseUrl, heard);
    const answer = await Promise.race([once(worker.child.stdout!, "data"), worker.ended]);
    if (!Array.isArray(answer)) throw new Error(`No worker: ${worker.complaints.join("\n")}`);
    return worker;
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Ends it in order if it still runs. */
  async stop(): Promise<void> {
    this.signal("SIGCONT");
    this.signal("SIGTERM");
    await this.ended;
  }
}

function readLine(text: string): Line {
  try {
    return JSON.parse(text) as Line;
  } catch {
    return {};
  }
}
