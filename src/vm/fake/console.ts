import type { FakeHost } from "./host.ts";

/** Yields what the machine prints from now on, until it has ended and all is read, or the signal aborts. */
export async function* followFakeConsole(
  host: FakeHost,
  id: string,
  signal: AbortSignal,
): AsyncGenerator<string> {
  let seen = host.console(id).length;
  while (!signal.aborted) {
    const text = host.console(id).slice(seen);
    seen += text.length;
    if (text !== "") yield text;
    else if (host.status(id)?.running) await changed(host, id, signal);
    else return;
  }
}

function changed(host: FakeHost, id: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const wake = (of: string) => {
      if (of !== id) return;
      for (const stop of stops) stop();
      signal.removeEventListener("abort", abort);
      resolve();
    };
    const abort = () => wake(id);
    const stops = [host.onOutput(wake), host.onEnd(wake)];
    signal.addEventListener("abort", abort, { once: true });
  });
}
