import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createRunnerDouble,
  type RunnerDouble,
  traceSummary,
} from "@firerunner/gitlab-stand-in/test-clients";
import { afterEach, describe, expect, test } from "vitest";
import { freePort } from "../../src/demo/workspace.ts";
import type { RelayLink } from "../../src/vm/driver.ts";
import { makeCertificateAuthority } from "../servers/certificates.ts";
import { type BenchMachine, createRelayBench, preambleOf, type RelayBench } from "./relay-bench.ts";

const MIB = 1024 ** 2;
const script = join(import.meta.dirname, "../../guest/relay-link");

const closing: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

interface Linked {
  readonly bench: RelayBench;
  readonly machine: BenchMachine;
  readonly guest: RunnerDouble;
  readonly port: number;
  /** What it complains of. */
  errors(): string;
}

/** A machine whose connections go the way that they go in a real one: through guest/relay-link. */
async function linked(options: Parameters<typeof createRelayBench>[0] = {}, change: Partial<RelayLink> = {}) {
  const bench = await createRelayBench({ network: true, ...options });
  closing.push(bench.close);
  const machine = await bench.machine();
  if (machine.link === undefined) throw new Error("no link");
  const link = { ...machine.link, ...change };
  const directory = await mkdtemp(join(tmpdir(), "fr-link-"));
  closing.push(() => rm(directory, { recursive: true, force: true }));
  await writeFile(join(directory, "preamble"), `${preambleOf(machine.id, link)}\n`);
  await writeFile(join(directory, "address"), `${link.address} ${link.serverName}\n`);
  await writeFile(join(directory, "ca.pem"), link.ca);
  const port = await freePort();
  const listener = spawn(script, ["listen", "127.0.0.1", String(port)], {
    env: { PATH: process.env["PATH"], FIRERUNNER_RUN: directory },
    stdio: ["ignore", "ignore", "pipe"],
    detached: true,
  });
  closing.push(() => endGroup(listener));
  let errors = "";
  listener.stderr?.on("data", (text) => {
    errors += String(text);
  });
  const guest = createRunnerDouble(`http://127.0.0.1:${port}`);
  closing.push(guest.close);
  await expect.poll(() => canConnect(port), { timeout: 10_000 }).toBe(true);
  return { bench, machine, guest, port, errors: () => errors } satisfies Linked;
}

async function endGroup(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once("close", resolve));
  if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
  await ended;
}

function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

describe("a machine's way to the relay", () => {
  test("carries a whole job, with large files up and down", async () => {
    const { machine, guest } = await linked();
    const { job, token, machineToken } = machine;
    const file = randomBytes(12 * MIB);
    await guest.claim(machineToken);
    const patch = await guest.appendTrace(job.id, token, 0, "hello\n");
    const upload = await guest.upload(job.id, token, "out.zip", file);
    const download = await guest.download(job.id, token);
    const end = await guest.update(job.id, token, "success", traceSummary("hello\n"));

    expect([patch.status, upload.status, download.status, end.status]).toEqual([202, 201, 200, 200]);
    expect([job.status, job.traceCheck?.matches]).toEqual(["success", true]);
  });

  test("lets each direction end for itself, and nothing be lost", async () => {
    const echo = createServer({ allowHalfOpen: true }, (socket) => {
      // Answers only when everything has come.
      const chunks: Buffer[] = [];
      socket.on("data", (chunk) => chunks.push(chunk));
      socket.on("end", () => setTimeout(() => socket.end(Buffer.concat(chunks)), 1_500));
    });
    await new Promise<void>((resolve) => echo.listen(0, "127.0.0.1", resolve));
    closing.push(() => new Promise((resolve) => echo.close(resolve)));
    const target = `127.0.0.1:${(echo.address() as AddressInfo).port}`;
    const { port } = await linked({ pool: { egress: "internet" }, relay: { guard: () => undefined } });
    const socket: Socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
    socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
    const opened = await new Promise((resolve) => socket.once("data", (data) => resolve(String(data))));
    const sent = randomBytes(5 * MIB);
    const received = createHash("sha256");
    socket.end(sent);
    for await (const chunk of socket) received.update(chunk);

    expect(opened).toMatch(/^HTTP\/1\.1 200 /);
    expect(received.digest("hex")).toBe(createHash("sha256").update(sent).digest("hex"));
  });

  test("waits for a relay that is being restarted", async () => {
    const { bench, machine, guest, port } = await linked();
    await guest.claim(machine.machineToken);
    await bench.relay.stop();
    // On a connection of its own: the first one has just been cut.
    const later = createRunnerDouble(`http://127.0.0.1:${port}`);
    closing.push(later.close);
    const patch = later.appendTrace(machine.job.id, machine.token, 0, "still here\n");
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    await bench.restart([machine]);

    expect((await patch).status).toBe(202);
  });

  test("does not lead to a relay that another authority vouches for, or of another name", async () => {
    await using authority = await makeCertificateAuthority();
    const impostor = await linked({}, { ca: authority.ca });
    const misnamed = await linked({}, { serverName: "relay.example.org" });
    const tries = [impostor, misnamed].map(({ guest }) =>
      Promise.race([
        guest.call("GET", "/firerunner/boot").catch(() => "cut"),
        new Promise((resolve) => setTimeout(() => resolve("nothing"), 3_000)),
      ]),
    );

    expect(await Promise.all(tries)).not.toContainEqual(expect.objectContaining({ status: 200 }));
    expect(impostor.errors() + misnamed.errors()).toMatch(/certificate/);
    expect(impostor.bench.relay.lastHeardAt(impostor.machine.id)).toBeUndefined();
    expect(misnamed.bench.relay.lastHeardAt(misnamed.machine.id)).toBeUndefined();
  });
});
