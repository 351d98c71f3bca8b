import { createHash, randomBytes } from "node:crypto";
import { connect, createServer, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { traceSummary } from "@firerunner/gitlab-stand-in/test-clients";
import { afterEach, describe, expect, test } from "vitest";
import type { RelayLink } from "../../src/vm/driver.ts";
import { createRecordingLog } from "../builders/recording-log.ts";
import { spoken } from "../harness/raw-socket.ts";
import {
  type BenchMachine,
  createRelayBench,
  dialLink,
  preambleOf,
  type RelayBench,
  type RelayBenchOptions,
} from "./relay-bench.ts";

const MIB = 1024 ** 2;

let bench: RelayBench;
let sockets: Socket[] = [];

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets = [];
  await bench.close();
});

async function open(options: RelayBenchOptions = {}): Promise<RelayBench> {
  bench = await createRelayBench({ network: true, ...options });
  return bench;
}

function linkOf(machine: BenchMachine): RelayLink {
  if (machine.link === undefined) throw new Error("no link");
  return machine.link;
}

/** A connection with this first line; the machine's own in order when it is not given. */
function dial(machine: BenchMachine, preamble = preambleOf(machine.id, linkOf(machine))): Socket {
  const socket = dialLink(linkOf(machine), preamble).on("error", () => {});
  sockets.push(socket);
  return socket;
}

function dialPlain(machine: BenchMachine): Socket {
  const [host = "", port] = linkOf(machine).address.split(":");
  const socket = connect({ host, port: Number(port) }).on("error", () => {});
  sockets.push(socket);
  return socket;
}

const askBoot = "GET /firerunner/boot HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n";

function ask(socket: Socket, request = askBoot): Promise<string> {
  socket.write(request);
  return spoken(socket);
}

async function endsOf({ id }: BenchMachine): Promise<string[]> {
  const events = await bench.store.events({ machineId: id });
  return events.flatMap((event) => (event.kind === "machine:ended" ? [event.detail.end] : []));
}

describe("a machine on another host", () => {
  test("does its job over TLS as one of this computer does, from boot to success", async () => {
    const { store } = await open();
    const machine = await bench.machine();
    const { guest, job, token } = machine;
    const log = "hello\nfrom the job\n";
    const boot = await guest.call("GET", "/firerunner/boot");
    const payload = await machine.handOver();
    const again = await guest.requestJob(machine.machineToken);
    const patch = await guest.appendTrace(job.id, token, 0, log);
    const upload = await guest.upload(job.id, token, "out.zip", randomBytes(3 * MIB));
    const download = await guest.download(job.id, token);
    const end = await guest.update(job.id, token, "success", traceSummary(log));

    expect(boot.text).toBe(`machine=${machine.id}\n`);
    expect(payload["token"]).toBe(token);
    expect(again.status).toBe(204);
    expect([patch.status, upload.status, download.status, end.status]).toEqual([202, 201, 200, 200]);
    expect([job.status, job.traceCheck?.matches]).toEqual(["success", true]);
    expect(await store.job(job.id)).toMatchObject({ state: "finished", result: "success" });
    expect(bench.relay.lastHeardAt(machine.id)).toBeGreaterThan(0);
  });

  test("gets out through the proxy with every byte, each side ending for itself", async () => {
    const echo = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
    await new Promise<void>((resolve) => echo.listen(0, "127.0.0.1", resolve));
    const address = echo.address();
    const port = typeof address === "object" ? address?.port : 0;
    await open({ pool: { egress: "internet" }, relay: { guard: () => undefined } });
    const machine = await bench.machine();
    const socket = dial(machine);
    socket.write(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: x\r\n\r\n`);
    const opened = await new Promise<string>((resolve) =>
      socket.once("data", (data) => resolve(String(data))),
    );
    const sent = randomBytes(8 * MIB);
    const hash = createHash("sha256");
    socket.end(sent);
    for await (const chunk of socket) hash.update(chunk);
    await new Promise((resolve) => echo.close(resolve));

    expect(opened).toMatch(/^HTTP\/1\.1 200 /);
    expect(hash.digest("hex")).toBe(createHash("sha256").update(sent).digest("hex"));
  });

  test("may send the first line and its request in any pieces", async () => {
    await open();
    const machine = await bench.machine();
    const whole = `${preambleOf(machine.id, linkOf(machine))}\n${askBoot}`;
    const [host = "", port] = linkOf(machine).address.split(":");
    const answers: string[] = [];
    for (const size of [1, 20, whole.length]) {
      const socket = connectTls({ host, port: Number(port), ca: linkOf(machine).ca }).on("error", () => {});
      sockets.push(socket);
      const answer = spoken(socket);
      for (let at = 0; at < whole.length; at += size) socket.write(whole.slice(at, at + size));
      answers.push(await answer);
    }

    for (const answer of answers) expect(answer).toContain(`machine=${machine.id}\n`);
  });

  test("that stops in the middle of a body is hung up on, and a slow one is not", async () => {
    await open({ settings: { bodyTimeout: 300 } });
    const machine = await bench.machine();
    const head = "POST /api/v4/jobs/request HTTP/1.1\r\nHost: relay\r\nContent-Length: 900\r\n\r\n";
    const stopped = dial(machine);
    const slow = dial(machine);
    stopped.write(`${head}{`);
    slow.write(head);
    let isSlowOver = false;
    void spoken(slow).then(() => {
      isSlowOver = true;
    });
    const over = spoken(stopped);
    for (let at = 0; at < 12; at++) {
      slow.write("x");
      await delay(100);
    }
    await over;

    expect(isSlowOver).toBe(false);
  });

  test("is told to cancel at once, and otherwise hears nothing for 20 s and asks again", async () => {
    const sleeps: number[] = [];
    const clock = {
      now: () => Date.now(),
      sleep: async (ms: number, signal?: AbortSignal) => {
        if (ms === 20_000) sleeps.push(ms);
        const isShort = ms === 20_000 && sleeps.length === 1;
        await delay(isShort ? 20 : 60_000, undefined, { ref: false, ...(signal ? { signal } : {}) });
      },
    };
    await open({ relay: { clock } });
    const machine = await bench.machine();
    const first = await machine.guest.call("GET", "/firerunner/cancel");
    const second = machine.guest.call("GET", "/firerunner/cancel");
    await expect.poll(() => sleeps.length).toBeGreaterThan(1);
    bench.relay.tellCanceling(machine.id);

    expect(first.status).toBe(204);
    expect((await second).text).toBe("canceled\n");
  });

  test("that says goodbye, or comes again on its used disk, is known to have ended", async () => {
    await open();
    const [polite, revenant] = [await bench.machine(), await bench.machine()];
    const before = bench.relay.endOf(polite.id);
    const bye = await polite.guest.call("POST", "/firerunner/end");
    const again = dial(revenant, `${preambleOf(revenant.id, linkOf(revenant))} again`);
    const said = await ask(again);

    expect([before, bye.status, said]).toEqual([undefined, 204, ""]);
    expect(bench.relay.endOf(polite.id)).toBe("orderly");
    await expect.poll(() => endsOf(revenant)).toEqual(["restarted"]);
    expect(bench.relay.endOf(revenant.id)).toBe("restarted");
    expect(await endsOf(polite)).toEqual(["orderly"]);
  });

  test("comes back after a restart of the relay: same address, same authority, same secret", async () => {
    await open();
    const machine = await bench.machine();
    await machine.handOver();
    const idle = spoken(dial(machine));
    await bench.restart([machine]);
    await idle;
    const patch = await machine.guest.appendTrace(machine.job.id, machine.token, 0, "still here\n");

    expect(patch.status).toBe(202);
  });

  test("may have only so many connections", async () => {
    await open({ settings: { connections: 3 } });
    const machine = await bench.machine();
    const held = [1, 2, 3].map(() => dial(machine));
    await Promise.all(held.map((socket) => new Promise((resolve) => socket.once("secureConnect", resolve))));
    await delay(200);
    const refused = await ask(dial(machine));
    held[0]?.destroy();

    expect(refused).toBe("");
    await expect.poll(() => ask(dial(machine))).toContain(`machine=${machine.id}`);
  });
});

describe("nothing is opened", () => {
  test("by a wrong secret, another machine's, an unknown machine, or no first line", async () => {
    const { log, lines } = createRecordingLog();
    await open({ relay: { log } });
    const [mine, other] = [await bench.machine(), await bench.machine()];
    const [good, others] = [mine, other].map((machine) => linkOf(machine).secret.reveal());
    const wrong = [
      `FIRERUNNER/1 ${mine.id} ${"0".repeat(64)}`,
      `FIRERUNNER/1 ${mine.id} ${others}`,
      `FIRERUNNER/1 fr-zzzzzzzz ${good}`,
      `FIRERUNNER/1 ${mine.id} ${good?.slice(1)}`,
      `FIRERUNNER/2 ${mine.id} ${good}`,
      `FIRERUNNER/1 ${mine.id} ${good} later`,
      "GET /firerunner/boot HTTP/1.1",
      "x".repeat(5_000),
    ];
    const answers = await Promise.all(wrong.map((preamble) => ask(dial(mine, preamble))));

    expect(new Set(answers)).toEqual(new Set([""]));
    expect(await ask(dial(mine))).toContain(`machine=${mine.id}`);
    expect(lines.filter((line) => line.includes("was refused"))).toHaveLength(3);
    expect(lines.join("\n")).not.toContain(good);
    expect(lines.join("\n")).not.toContain(others);
  });

  test("by the secret of a machine that is being stopped, or whose server is closed", async () => {
    await open();
    const [stopping, closed] = [await bench.machine(), await bench.machine()];
    const held = spoken(dial(closed));
    await bench.store.stopMachine(stopping.id, "its job has ended");
    await bench.relay.close(closed.id);
    await held;

    expect(await ask(dial(stopping))).toBe("");
    expect(await ask(dial(closed))).toBe("");
  });

  test("for another machine's job: its payload, its trace and its artifacts", async () => {
    await open();
    const [mine, other] = [await bench.machine(), await bench.machine()];
    await other.handOver();
    const payload = await mine.guest.requestJob(other.machineToken);
    const patch = await mine.guest.appendTrace(other.job.id, other.token, 0, "mine");
    const artifacts = await mine.guest.download(other.job.id, other.token);

    expect([payload.status, patch.status, artifacts.status]).toEqual([403, 403, 403]);
  });

  test("for a machine of this computer by the network, whatever it says", async () => {
    await open();
    const machine = await bench.machine();
    await bench.relay.open(machine.id, machine.socketPath);

    expect(await ask(dial(machine))).toBe("");
  });

  test("by plain text or garbage on the TLS port, and others are served meanwhile", async () => {
    await open();
    const machine = await bench.machine();
    const plain = ask(dialPlain(machine), `${preambleOf(machine.id, linkOf(machine))}\n${askBoot}`);
    const garbage = ask(dialPlain(machine), randomBytes(3_000).toString("latin1"));

    expect(await ask(dial(machine))).toContain(`machine=${machine.id}`);
    expect(await plain).not.toContain("machine=");
    expect(await garbage).not.toContain("machine=");
  });

  test("to TLS 1.1, nor is a renegotiation", async () => {
    await open();
    const { ca, address } = linkOf(await bench.machine());
    const [host = "", port] = address.split(":");
    const old = connectTls({ host, port: Number(port), ca, minVersion: "TLSv1.1", maxVersion: "TLSv1.1" });
    const said = new Promise((resolve) => old.once("error", resolve).once("secureConnect", resolve));
    const twelve = connectTls({ host, port: Number(port), ca, maxVersion: "TLSv1.2" });
    sockets.push(old, twelve);
    await new Promise((resolve) => twelve.once("secureConnect", resolve));
    const renegotiated = await new Promise((resolve) => {
      twelve.once("error", resolve).once("close", resolve);
      twelve.renegotiate({}, resolve);
    });

    expect(await said).toBeInstanceOf(Error);
    expect(renegotiated).not.toBe(null);
  });
});

describe("strangers", () => {
  test("that are slow to say who they are, before or after the handshake, are hung up on", async () => {
    await open({ settings: { headerTimeout: 400 } });
    const machine = await bench.machine();
    const silent = spoken(dialPlain(machine));
    const [host = "", port] = linkOf(machine).address.split(":");
    const half = connectTls({ host, port: Number(port), ca: linkOf(machine).ca }).on("error", () => {});
    sockets.push(half);
    half.write(preambleOf(machine.id, linkOf(machine)));
    const trickling = spoken(half);

    expect(await silent).toBe("");
    expect(await trickling).toBe("");
  });

  test("that come in crowds give way to each other, and a guest gets in", async () => {
    const { log, lines } = createRecordingLog();
    await open({ relay: { log } });
    const machine = await bench.machine();
    const crowd = Array.from({ length: 600 }, () => dialPlain(machine));
    const ended = crowd.map(
      (socket) => new Promise<void>((resolve) => socket.once("close", () => resolve())),
    );
    const served = await ask(dial(machine));
    let gone = 0;
    for (const each of ended) void each.then(() => gone++);

    expect(served).toContain(`machine=${machine.id}`);
    await expect.poll(() => gone, { timeout: 10_000 }).toBeGreaterThanOrEqual(600 - 256);
    expect(lines.filter((line) => line.includes("was refused")).length).toBeLessThanOrEqual(2);
  });
});

describe("a link", () => {
  test("is refused when the relay listens nowhere, or the machine has left its making", async () => {
    bench = await createRelayBench();
    const local = await bench.machine();

    await expect(bench.relay.open(local.id, undefined)).rejects.toMatchObject({ code: "relay_no_network" });
    await expect(bench.relay.link(local.id)).rejects.toMatchObject({ code: "relay_no_network" });
    await bench.close();
    await open();
    const machine = await bench.machine();
    await expect(bench.relay.link(machine.id)).rejects.toMatchObject({ code: "relay_no_link" });
  });

  test("names an address, its name and an authority that vouches for it", async () => {
    await open();
    const link = linkOf(await bench.machine());

    expect(link.address).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(link.serverName).toBe("127.0.0.1");
    expect(link.ca).toMatch(/^-----BEGIN CERTIFICATE-----/);
    expect(`${JSON.stringify(link)}`).not.toContain(link.secret.reveal());
  });
});
