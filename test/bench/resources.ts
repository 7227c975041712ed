/**
 * What a run has opened (a server, processes, folders) and closes again, the last first, however it ends. One list for the
 * whole process, because a signal must find everything.
 */
type Close = () => Promise<unknown>;

let opened: Close[] = [];
let closing: Promise<void> | undefined;
let stopped = false;

/** Returns a function that closes it now; closing twice does nothing. */
export function onClose(close: Close): Close {
  let done: Promise<unknown> | undefined;
  const once: Close = () => {
    opened = opened.filter((other) => other !== once);
    return (done ??= close());
  };
  opened.push(once);
  return once;
}

/** Whether a signal or the clock ended the run; then what fails is no news. */
export function wasStopped(): boolean {
  return stopped;
}

export function closeAll(): Promise<void> {
  closing ??= (async () => {
    for (const close of opened.toReversed()) {
      await close().catch((error: unknown) => console.error("could not close:", error));
    }
  })();
  return closing;
}

export function closeOnSignals(): void {
  const signals = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };
  for (const [signal, code] of Object.entries(signals)) {
    process.on(signal, () => stop(code));
  }
}

/** Ends the run when it takes longer than anybody will wait. */
export function closeAfter(seconds: number): void {
  setTimeout(() => {
    console.error(`bench: not done after ${seconds} s; stopped`);
    stop(1);
  }, seconds * 1000).unref();
}

function stop(code: number): void {
  stopped = true;
  void closeAll().then(() => process.exit(code));
}
