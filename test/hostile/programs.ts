import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** A machine whose job is hostile. */
export interface Victim {
  readonly socketPath: string;
  readonly jobId: number;
  readonly token: string;
}

/** One way of doing harm, gone on with until the signal aborts. Answers how many requests it sent. */
type Program = (victim: Victim, signal: AbortSignal) => Promise<number>;

const MIB = 1024 ** 2;
const CONNECTIONS = 100;
const BATCH = "/group/project.git/info/lfs/objects/batch";
const REFS = "/group/project.git/info/refs?service=git-upload-pack";

/** A connection on which `text` is written. It is read, unless `isRead` is false, and ends when the other side wants it. */
function dial(victim: Victim, text: string | Buffer, isRead = true): Socket {
  const socket = connect({ path: victim.socketPath, allowHalfOpen: true });
  socket.on("error", () => {}).on("end", () => socket.destroy());
  if (isRead) socket.resume();
  socket.write(text);
  return socket;
}

function ended(socket: Socket, limitMs: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => socket.destroy(), limitMs);
    socket.once("close", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Keeps `CONNECTIONS` connections busy, each with `send` again and again. */
async function crowd(signal: AbortSignal, send: (round: number) => Promise<number>): Promise<number> {
  let sent = 0;
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      for (let round = 0; !signal.aborted; round++) {
        const requests = await send(round);
        sent += requests;
        // A connection that is refused at once must not make this a test of connect(2).
        await sleep(5);
      }
    }),
  );
  return sent;
}

function request(method: string, path: string, headers: readonly string[] = [], body = ""): string {
  const length = body === "" ? [] : [`Content-Length: ${Buffer.byteLength(body)}`];
  return `${[`${method} ${path} HTTP/1.1`, "Host: r", ...headers, ...length].join("\r\n")}\r\n\r\n${body}`;
}

const basic = (user: string, password: string) =>
  `Authorization: Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;

const own = ({ token }: Victim) => basic("gitlab-ci-token", token);

const batchOf = (victim: Victim, kind: string, more: readonly string[] = []) =>
  request(
    "POST",
    BATCH,
    [own(victim), "Accept: application/vnd.git-lfs+json", ...more],
    `{"kind":"${kind}"}`,
  );

/** Each by the name under which the figures tell it. */
export const programs: Readonly<Record<string, Program>> = {
  "held requests": (victim, signal) =>
    crowd(signal, async () => {
      const socket = dial(victim, request("GET", "/firerunner/cancel", [`X-Padding: ${"x".repeat(8_000)}`]));
      await ended(socket, 300);
      return 1;
    }),
  pipelining: (victim, signal) =>
    crowd(signal, async (round) => {
      const path = round % 2 === 0 ? "/firerunner/cancel" : "/firerunner/boot";
      await ended(dial(victim, request("GET", path).repeat(1_000)), 500);
      return 1_000;
    }),
  "batches of 4 MiB": (victim, signal) =>
    crowd(signal, async () => {
      await ended(dial(victim, batchOf(victim, "large", ["Connection: close"])), 10_000);
      return 1;
    }),
  "deep JSON": (victim, signal) =>
    crowd(signal, async (round) => {
      const deep = request("PUT", `/api/v4/jobs/${victim.jobId}`, ["Connection: close"], "[".repeat(60_000));
      const text = round % 2 === 0 ? deep : batchOf(victim, "deep", ["Connection: close"]);
      await ended(dial(victim, text), 10_000);
      return 1;
    }),
  guesses: (victim, signal) =>
    crowd(signal, async (round) => {
      const wrong = basic("root", `guess ${round} ${Math.random()}`);
      await ended(dial(victim, request("GET", REFS, [wrong, "Connection: close"])), 2_000);
      return 1;
    }),
  "slow readers": (victim, signal) =>
    crowd(signal, async () => {
      await ended(dial(victim, batchOf(victim, "large"), false), 3_000);
      return 1;
    }),
  "refused requests": (victim, signal) =>
    crowd(signal, async (round) => {
      const texts = [
        request("GET", "/nothing", ["Connection: close"]),
        request("PUT", "/api/v4/jobs/1", ["JOB-TOKEN: x", "Connection: close"], '{"token":"x"}'),
        "\u0016\u0003\u0001",
        request("GET", "http://127.0.0.1:1/", ["Connection: close"]),
      ];
      await ended(dial(victim, texts[round % texts.length] ?? ""), 2_000);
      return 1;
    }),
  "many headers": (victim, signal) =>
    crowd(signal, async (round) => {
      const many = Array.from(
        { length: round % 2 === 0 ? 90 : 1_900 },
        (_, index) => `a${index}: ${"x".repeat(round % 2 === 0 ? 150 : 1)}`,
      );
      await ended(dial(victim, request("GET", REFS, [own(victim), ...many]), false), 2_000);
      return 1;
    }),
  "half-open connections": (victim, signal) =>
    crowd(signal, async (round) => {
      const socket = dial(
        victim,
        round % 2 === 0 ? request("GET", REFS, [own(victim)]) : "GET /firerunner/boot HTTP/1.1\r\nX: ",
        false,
      );
      if (round % 2 === 0) socket.end();
      await ended(socket, 3_000);
      return 1;
    }),
  "bodies that trickle": (victim, signal) =>
    crowd(signal, async () => {
      const headers = [
        `JOB-TOKEN: ${victim.token}`,
        "Content-Range: 0-4194303",
        `Content-Length: ${4 * MIB}`,
      ];
      const socket = dial(victim, request("PATCH", `/api/v4/jobs/${victim.jobId}/trace`, headers));
      socket.write(Buffer.alloc(4 * MIB - 1_000, "x"));
      const trickle = setInterval(() => socket.writable && socket.write("x"), 100);
      await ended(socket, 5_000);
      clearInterval(trickle);
      return 1;
    }),
};
