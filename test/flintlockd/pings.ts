import { constants, type ServerHttp2Session } from "node:http2";

const LEAST_WITH_CALLS_MS = 5 * 60_000;
const LEAST_WITHOUT_CALLS_MS = 2 * 3_600_000;
const PATIENCE = 2;

/**
 * What grpc-go allows a client as flintlockd leaves it (read in source): a ping in five minutes while a call is open, in two hours
 * while none is. More than two too early, with no answer sent in between, end the connection.
 */
export function limitPings(session: ServerHttp2Session, now: () => number): void {
  let openCalls = 0;
  let lastAt = Number.NEGATIVE_INFINITY;
  let tooEarly = 0;
  session.on("stream", (stream) => {
    openCalls++;
    stream.on("close", () => {
      openCalls--;
      tooEarly = 0;
      lastAt = Number.NEGATIVE_INFINITY;
    });
  });
  session.on("ping", () => {
    const leastMs = openCalls > 0 ? LEAST_WITH_CALLS_MS : LEAST_WITHOUT_CALLS_MS;
    if (now() - lastAt < leastMs) tooEarly++;
    lastAt = now();
    if (tooEarly <= PATIENCE) return;
    session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM, 0, Buffer.from("too_many_pings"));
    setImmediate(() => session.destroy());
  });
}
