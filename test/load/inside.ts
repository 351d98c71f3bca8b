/**
 * Loaded into the real program before its own first line (`node --import`): tells whoever started it what its heap holds, and steps its
 * clock. A step changes what `Date` says and no timer, as when somebody sets a computer's clock.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** From the starter. */
export type ToInside = { readonly question: number } | { readonly clockOffsetMs: number };
/** The answer to a question: bytes that JavaScript holds once garbage is collected, buffers outside its heap included. */
export interface FromInside {
  readonly answer: number;
  readonly heldBytes: number;
}

// Not for the programs that it starts.
delete process.env["NODE_OPTIONS"];
setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

let clockOffsetMs = 0;
const TrueDate = Date;
const steppedNow = () => TrueDate.now() + clockOffsetMs;

function stepClock(offsetMs: number): void {
  clockOffsetMs = offsetMs;
  globalThis.Date = new Proxy(TrueDate, {
    construct: (target, given, newTarget) =>
      Reflect.construct(target, given.length === 0 ? [steppedNow()] : given, newTarget),
    apply: () => new TrueDate(steppedNow()).toString(),
    get: (target, key, receiver) => (key === "now" ? steppedNow : Reflect.get(target, key, receiver)),
  });
}

process.on("message", (message: ToInside) => {
  if ("clockOffsetMs" in message) return stepClock(message.clockOffsetMs);
  collect();
  const { heapUsed, external } = process.memoryUsage();
  const answer: FromInside = { answer: message.question, heldBytes: heapUsed + external };
  process.send?.(answer, undefined, {}, () => {});
});
// The program ends as it would without us.
process.channel?.unref();
