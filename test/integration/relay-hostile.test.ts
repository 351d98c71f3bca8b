import { connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { traceSummary } from "@firerunner/gitlab-stand-in/test-clients";
import { afterEach, describe, expect, test } from "vitest";
import { spoken } from "../harness/raw-socket.ts";
import {
  type BenchMachine,
  createRelayBench,
  type RelayBench,
  type RelayBenchOptions,
} from "./relay-bench.ts";

let bench: RelayBench;
let sockets: Socket[] = [];

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets = [];
  await bench.close();
});

interface Pair {
  readonly hostile: BenchMachine;
  readonly neighbour: BenchMachine;
}

/** A hostile guest and a well-behaved one beside it; both have their job. */
async function pair(options: RelayBenchOptions = {}): Promise<Pair> {
  bench = await createRelayBench(options);
  const [hostile, neighbour] = [await bench.machine(), await bench.machine()];
  await hostile.handOver();
  return { hostile, neighbour };
}

/** The whole life of the neighbour's job: it must go as if it were alone. */
async function expectServed({ neighbour }: Pair): Promise<void> {
  const { guest, job, token } = neighbour;
  await neighbour.handOver();
  const log = "a quiet job\n";
  const patch = await guest.appendTrace(job.id, token, 0, log);
  const upload = await guest.upload(job.id, token, "out.zip", "content");
  const end = await guest.update(job.id, token, "success", traceSummary(log));

  expect([patch.status, upload.status, end.status]).toEqual([202, 201, 200]);
  expect([job.status, job.traceCheck?.matches]).toEqual(["success", true]);
}

async function brokenRules({ id }: BenchMachine): Promise<string[]> {
  const events = await bench.store.events({ machineId: id });
  return events.flatMap((event) => (event.kind === "guest:refused" ? [event.detail.rule] : []));
}

function raw({ socketPath }: BenchMachine, text = ""): Socket {
  const socket = connect({ path: socketPath, allowHalfOpen: true });
  sockets.push(socket);
  socket.on("error", () => {});
  if (text !== "") socket.write(text);
  return socket;
}

function statusOf(answer: string): number {
  return Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 0);
}

describe("a hostile guest", () => {
  test("that asks for the job with another's secret, or without one, gets nothing", async () => {
    const both = await pair();
    const { hostile, neighbour } = both;
    const answers = [
      await hostile.guest.requestJob(neighbour.machineToken),
      await hostile.guest.requestJob("glrt-guess"),
      await hostile.guest.call("POST", "/api/v4/jobs/request", { body: "{}" }),
      await hostile.guest.call("POST", "/api/v4/jobs/request", { body: "not json" }),
      await hostile.guest.call("POST", "/api/v4/jobs/request", { body: '["token"]' }),
    ];

    expect(answers.map(({ status }) => status)).toEqual([403, 403, 403, 400, 400]);
    expect(await brokenRules(hostile)).toEqual(["wrong-machine-token"]);
    await expectServed(both);
  });

  test("that reaches for another's job is refused, also with that job's own token", async () => {
    const both = await pair();
    const { hostile, neighbour } = both;
    const { guest } = hostile;
    const answers = [
      await guest.update(neighbour.job.id, neighbour.token, "failed"),
      await guest.update(neighbour.job.id, hostile.token, "failed"),
      await guest.appendTrace(neighbour.job.id, neighbour.token, 0, "x"),
      await guest.upload(neighbour.job.id, neighbour.token, "out.zip", "x"),
      await guest.download(neighbour.job.id, hostile.token),
      await guest.appendTrace(hostile.job.id, neighbour.token, 0, "x"),
      await guest.update(hostile.job.id, "", "failed"),
      await guest.call("PUT", `/api/v4/jobs/${hostile.job.id}`, { body: '{"state":"failed"}' }),
      await guest.call("PUT", `/api/v4/jobs/${hostile.job.id}`, { body: '{"state":"failed","token":7}' }),
      await guest.call("PUT", `/api/v4/jobs/${hostile.job.id}`, {
        headers: { "JOB-TOKEN": hostile.token },
        body: JSON.stringify({ state: "failed", token: neighbour.token }),
      }),
    ];

    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 403));
    expect((await brokenRules(hostile)).toSorted()).toEqual(["wrong-job", "wrong-token"]);
    expect([hostile.job.status, neighbour.job.status]).toEqual(["running", "running"]);
    await expectServed(both);
  });

  test("that calls for its job again and again gets it once", async () => {
    const both = await pair();
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => both.hostile.guest.requestJob(both.hostile.machineToken)),
    );

    expect(new Set(answers.map(({ status }) => status))).not.toContain(201);
    await expectServed(both);
  });

  test("that never calls at all costs the others nothing", async () => {
    await expectServed(await pair());
  });

  test("that sends wrong ranges cannot disturb even its own trace", async () => {
    const both = await pair();
    const { guest, job, token } = both.hostile;
    await guest.appendTrace(job.id, token, 0, "good");
    const answers = await Promise.all(
      [1, 3, 5, 999_999].map((start) => guest.appendTrace(job.id, token, start, "evil")),
    );

    expect(answers.map(({ status }) => status)).toEqual([416, 416, 416, 416]);
    expect(job.trace.text().endsWith("\ngood")).toBe(true);
    await expectServed(both);
  });

  test("that sends too much in one body is cut short", async () => {
    const both = await pair();
    const { guest, job, token } = both.hostile;
    const patch = await guest.appendTrace(job.id, token, 0, "x".repeat(4 * 1024 ** 2 + 1));
    const put = await guest.update(job.id, token, "running", { padding: "x".repeat(70_000) });
    const chunked = raw(
      both.hostile,
      `PUT /api/v4/jobs/${job.id} HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n`,
    );
    const answer = spoken(chunked);
    const flood = setInterval(() => chunked.write(`4000\r\n${"x".repeat(0x4000)}\r\n`), 1);
    const status = statusOf(await answer);
    clearInterval(flood);

    expect([patch.status, put.status, status]).toEqual([413, 413, 413]);
    await expectServed(both);
  });

  test("that floods with requests is slowed, and its neighbour is not", async () => {
    const both = await pair({ settings: { requestsPerSecond: 5 } });
    const answers = await Promise.all(
      Array.from({ length: 80 }, () => both.hostile.guest.call("GET", "/firerunner/boot")),
    );
    const limited = answers.filter(({ status }) => status === 429);

    expect(limited.length).toBeGreaterThan(10);
    expect(limited[0]?.headers["retry-after"]).toBe("1");
    expect(await brokenRules(both.hostile)).toEqual(["too-many-requests"]);
    await expectServed(both);
  });

  test("that is refused again and again waits for each answer, and its neighbour for none", async () => {
    const both = await pair();
    const startedAt = performance.now();
    const answers = Promise.all(Array.from({ length: 65 }, () => both.hostile.guest.call("GET", "/nothing")));
    await expectServed(both);

    expect((await answers).filter(({ status }) => status < 400)).toEqual([]);
    // Fifty at once, and then ten in a second.
    expect(performance.now() - startedAt).toBeGreaterThan(1_300);
  });

  test("that opens connections faster than it may has each served in its turn", async () => {
    const both = await pair({ settings: { requestsPerSecond: 5 } });
    const opened = Array.from({ length: 120 }, () =>
      spoken(raw(both.hostile, "GET /nothing HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n")),
    );
    await expectServed(both);

    expect((await Promise.all(opened.slice(0, 10))).map(statusOf)).not.toContain(0);
    await expect.poll(async () => await brokenRules(both.hostile)).toContain("too-many-connections");
  });

  test("that nests its JSON as deep as it can is refused; brackets in a text are no depth", async () => {
    const both = await pair();
    const ask = (body: string) => both.hostile.guest.call("POST", "/api/v4/jobs/request", { body });
    const deep = await Promise.all(["[".repeat(60_000), '{"a":"]\\"]",'.repeat(5_000)].map(ask));
    const flat = await ask(JSON.stringify({ token: `"${"[{".repeat(20_000)}` }));

    expect([...deep, flat].map(({ status }) => status)).toEqual([400, 400, 403]);
    await expectServed(both);
  });

  test("that reports in parallel for ever is told to wait", async () => {
    const both = await pair({ settings: { updatesPerMinute: 1 } });
    const { guest, job, token } = both.hostile;
    const answers = Promise.all(
      Array.from({ length: 30 }, () => guest.update(job.id, token, "running")),
    ).catch(() => []);
    await expect.poll(async () => await brokenRules(both.hostile)).toEqual(["too-many-at-once:update-job"]);
    await expectServed(both);
    await bench.relay.close(both.hostile.id);
    await answers;
  });

  test("that opens thousands of connections has only the allowed ones", async () => {
    const both = await pair({ settings: { connections: 20 } });
    const opened = Array.from({ length: 2_000 }, () => raw(both.hostile));
    let closed = 0;
    for (const socket of opened) {
      socket.once("end", () => socket.destroy());
      socket.once("close", () => closed++).resume();
    }
    await expectServed(both);

    await expect.poll(() => closed, { timeout: 10_000 }).toBeGreaterThan(1_900);
    await expect.poll(async () => await brokenRules(both.hostile)).toContain("too-many-connections");
  });

  test("that says nothing, or trickles its header, is hung up on", async () => {
    const both = await pair({ settings: { headerTimeout: 150 } });
    const silent = spoken(raw(both.hostile));
    const loris = raw(both.hostile, "GET /firerunner/boot HTTP/1.1\r\nHost: r\r\n");
    const trickle = setInterval(() => loris.write("X: y\r\n"), 20);
    await Promise.all([silent, spoken(loris)]);
    clearInterval(trickle);

    await expectServed(both);
  });

  test("that trickles the header of its second request is hung up on as well", async () => {
    const both = await pair({ settings: { headerTimeout: 150 } });
    const socket = raw(both.hostile, "GET /firerunner/boot HTTP/1.1\r\nHost: r\r\n\r\n");
    await new Promise((resolve) => socket.once("data", resolve));
    const closed = spoken(socket);
    const trickle = setInterval(() => socket.write("G"), 20);
    await closed;
    clearInterval(trickle);

    await expectServed(both);
  });

  test("that stops in the middle of a body is hung up on", async () => {
    const both = await pair({ settings: { bodyTimeout: 100 } });
    const { job, token } = both.hostile;
    const stuck = raw(
      both.hostile,
      `PATCH /api/v4/jobs/${job.id}/trace HTTP/1.1\r\nHost: r\r\nJOB-TOKEN: ${token}\r\nContent-Range: 0-9\r\nContent-Length: 10\r\n\r\nabc`,
    );
    await spoken(stuck);

    expect(job.trace.text()).not.toContain("abc");
    await expectServed(both);
  });

  test("that does not read its answers holds nothing but its own connection", async () => {
    const both = await pair({ settings: { idleTimeout: 1_500 } });
    const { hostile } = both;
    await hostile.guest.upload(hostile.job.id, hostile.token, "big.zip", Buffer.alloc(30 * 1024 ** 2));
    const socket = raw(
      hostile,
      `GET /api/v4/jobs/${hostile.job.id}/artifacts HTTP/1.1\r\nHost: r\r\nJOB-TOKEN: ${hostile.token}\r\n\r\n`,
    );
    socket.pause();
    await expectServed(both);
    await delay(4_000);
    const whole = await spoken(socket.resume());

    expect(whole.length).toBeLessThan(30 * 1024 ** 2);
  });

  test.each([
    ["giant headers", `GET /firerunner/boot HTTP/1.1\r\nHost: r\r\nX: ${"x".repeat(20_000)}\r\n\r\n`, 431],
    ["no HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01", 400],
    [
      "two lengths",
      "POST /api/v4/jobs/request HTTP/1.1\r\nHost: r\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      400,
    ],
    ["a broken header", "GET /firerunner/boot HTTP/1.1\r\nHost: r\r\nX : y\r\n\r\n", 400],
    ["no host", "GET /firerunner/boot HTTP/1.1\r\n\r\n", 400],
    ["a bad path", "GET /../../etc/passwd HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n", 404],
    [
      "an encoded way up",
      "GET /group/%2e%2e/x.git/info/refs HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n",
      404,
    ],
    ["the API at large", "GET /api/v4/projects HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n", 404],
    ["a tunnel to loopback", "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n", 403],
    ["a tunnel to nowhere", "CONNECT / HTTP/1.1\r\nHost: r\r\n\r\n", 400],
    [
      "a proxied loopback",
      "GET http://127.0.0.1:80/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
      403,
    ],
    ["a proxied file", "GET file:///etc/passwd HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n", 400],
    ["an upgrade", "GET /nothing HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 404],
  ])("that sends %s is answered in words or hung up on", async (_what, request, status) => {
    const both = await pair({ pool: { egress: "internet" }, settings: { headerTimeout: 10_000 } });
    const socket = raw(both.hostile, request);
    const answer = await new Promise<string>((resolve) =>
      socket.once("data", (data) => resolve(data.toString())),
    );

    expect(statusOf(answer)).toBe(status);
    await expectServed(both);
  });

  test("cannot put a line of its own into the clone URL or a header", async () => {
    bench = await createRelayBench();
    const machine = await bench.machine();
    const answer = await machine.guest.call("POST", "/api/v4/jobs/request", {
      headers: { Host: "evil.example.com/x?" },
      body: JSON.stringify({ token: machine.machineToken }),
    });

    expect(answer.status).toBe(400);
    expect((await bench.store.job(machine.job.id))?.state).toBe("starting");
  });
});
