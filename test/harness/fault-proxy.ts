/** A TCP link on loopback that can be spoilt, between any two programs that a test lets speak to each other. */
import { connect, createServer, type Socket } from "node:net";
import { createListeners } from "../../src/base/listeners.ts";
import { freePort } from "../../src/demo/workspace.ts";

/** From who opened the connection, or from who answered it. */
type Way = "there" | "back";

/** What is wrong with a link for as long as it is set. What it holds back arrives when it is over, as TCP sends again what was lost. */
export type LinkFault =
  /** Nothing arrives on either side, ends of connections included. */
  | { readonly kind: "partition" }
  /** Nothing arrives on this way. */
  | { readonly kind: "one-way"; readonly way: Way }
  /** Every piece is so late, on both ways. */
  | { readonly kind: "delay"; readonly ms: number }
  /** A piece is lost with this chance, and comes as late as its repetition would. */
  | { readonly kind: "loss"; readonly chance: number; readonly repeatMs: number }
  /** The connections that are open are reset, and new ones are as soon as they carry something. */
  | { readonly kind: "reset" }
  /** Nobody listens. */
  | { readonly kind: "refuse" };

export interface FaultProxy extends AsyncDisposable {
  /** `127.0.0.1:PORT`, the same for its whole life. */
  readonly address: string;
  readonly port: number;
  /** Connections that are open on the opener's side. */
  readonly openCount: number;
  /** Undefined: all is well. */
  setFault(fault: LinkFault | undefined): Promise<void>;
  /** The far side of each open connection is gone, as after its power was cut, and the near side hears nothing of it, ever. */
  halfOpen(): void;
  /** Both sides of each open connection are reset. */
  reset(): void;
}

interface FaultProxyOptions {
  /** Where it leads: `127.0.0.1:PORT`, asked for each connection. */
  readonly to: () => string;
  /** [0, 1) */
  readonly random?: () => number;
}

/** What a link does to what passes. Resolves when a piece may go on. */
interface Weather {
  pass(way: Way): Promise<void>;
}

interface Line {
  readonly near: Socket;
  readonly far: Socket;
  /** Its far side was taken away; the near side is left as it is. */
  isDead: boolean;
}

export async function createFaultProxy({ to, random = Math.random }: FaultProxyOptions): Promise<FaultProxy> {
  const lines = new Set<Line>();
  const changed = createListeners<void>();
  let fault: LinkFault | undefined;
  let isClosed = false;

  const weather: Weather = {
    async pass(way) {
      while (isHeld(fault, way) && !isClosed)
        await new Promise<void>((resolve) => {
          const stop = changed.add(() => {
            stop();
            resolve();
          });
        });
      const lateMs = latenessOf(fault, random);
      if (lateMs > 0 && !isClosed) await new Promise((resolve) => setTimeout(resolve, lateMs));
    },
  };

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    const { hostname: host, port } = new URL(`http://${to()}`);
    const far = connect({ host, port: Number(port), allowHalfOpen: true, noDelay: true });
    const line: Line = { near, far, isDead: false };
    lines.add(line);
    near.once("close", () => lines.delete(line));
    for (const socket of [near, far]) socket.on("error", () => {});
    void carry(line, "there");
    void carry(line, "back");
  });

  async function carry(line: Line, way: Way): Promise<void> {
    const [from, onto] = way === "there" ? [line.near, line.far] : [line.far, line.near];
    try {
      // The other way may go on when this one has ended.
      for await (const piece of from.iterator({ destroyOnReturn: false })) {
        if (line.isDead) continue;
        await weather.pass(way);
        if (fault?.kind === "reset") return resetBoth(line);
        // Called as well when the other side is gone meanwhile.
        await new Promise<void>((resolve) => onto.write(piece, () => resolve()));
      }
      await weather.pass(way);
      if (!line.isDead) onto.end();
    } catch {
      await weather.pass(way);
      if (!line.isDead) resetBoth(line);
    }
  }

  function reset(): void {
    for (const line of lines) resetBoth(line);
  }

  async function listen(port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject).listen(port, "127.0.0.1", () => {
        server.off("error", reject);
        resolve();
      });
    });
  }

  const port = await freePort();
  await listen(port);
  return {
    address: `127.0.0.1:${port}`,
    port,
    get openCount() {
      return lines.size;
    },
    async setFault(next) {
      fault = next;
      changed.emit();
      if (next?.kind === "reset" || next?.kind === "refuse") reset();
      if (next?.kind === "refuse" && server.listening) server.close();
      if (next?.kind !== "refuse" && !server.listening && !isClosed) await listen(port);
    },
    halfOpen() {
      for (const line of lines) {
        line.isDead = true;
        line.far.destroy();
      }
    },
    reset,
    async [Symbol.asyncDispose]() {
      isClosed = true;
      changed.emit();
      reset();
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    },
  };
}

function isHeld(fault: LinkFault | undefined, way: Way): boolean {
  return fault?.kind === "partition" || (fault?.kind === "one-way" && fault.way === way);
}

function latenessOf(fault: LinkFault | undefined, random: () => number): number {
  if (fault?.kind === "delay") return fault.ms;
  return fault?.kind === "loss" && random() < fault.chance ? fault.repeatMs : 0;
}

function resetBoth({ near, far }: Line): void {
  near.resetAndDestroy();
  far.resetAndDestroy();
}
