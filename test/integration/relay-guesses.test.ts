import { createServer, type IncomingMessage } from "node:http";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createManualClock, type ManualClock } from "../../src/base/manual-clock.ts";
import { type BenchMachine, createRelayBench, type RelayBench } from "./relay-bench.ts";

const PATH = "/group/project.git/info/refs?service=git-upload-pack";

let bench: RelayBench;
let clock: ManualClock;
let arrived: string[];
let closeGitLab: () => Promise<unknown>;

/** A GitLab that takes the credentials of jobs and those of “friend”, and answers 401 to all others, as it does to a request without any. */
beforeEach(async () => {
  arrived = [];
  const isGood = ({ headers }: IncomingMessage) => {
    const given = Buffer.from(headers.authorization?.slice("Basic ".length) ?? "", "base64").toString();
    if (headers.authorization !== undefined) arrived.push(given);
    return given.startsWith("gitlab-ci-token:glcbt-") || given.startsWith("friend:");
  };
  const server = createServer((request, response) => {
    request.resume();
    if (request.method === "PATCH") {
      response.writeHead(202, { "Job-Status": "running" }).end();
      return;
    }
    const status = isGood(request) ? 200 : 401;
    if (status === 401 && arrived.at(-1)?.startsWith("slow:")) return;
    response.writeHead(status, { "WWW-Authenticate": "Basic" }).end("x");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closeGitLab = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  const address = server.address();
  const gitlabUrl = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  clock = createManualClock();
  bench = await createRelayBench({ gitlabUrl, relay: { clock } });
});

afterEach(async () => {
  await bench.close();
  await closeGitLab();
});

const pause = (ms: number) => delay(ms, false);

async function aMachine(): Promise<BenchMachine> {
  const machine = await bench.machine();
  await machine.handOver();
  return machine;
}

async function ask({ guest }: BenchMachine, user?: string, password = ""): Promise<number> {
  const basic = `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
  const headers = user === undefined ? {} : { Authorization: basic };
  return (await guest.call("GET", PATH, { headers })).status;
}

async function brokenRules({ id }: BenchMachine): Promise<string[]> {
  const events = await bench.store.events({ machineId: id });
  return events.flatMap((event) => (event.kind === "guest:refused" ? [event.detail.rule] : []));
}

describe("a job that guesses credentials", () => {
  test("is cut off after a few, told so in words, and recorded once; its own token still works", async () => {
    const machine = await aMachine();
    const statuses: number[] = [];
    for (let guess = 0; guess < 120; guess++) {
      // As many refusals as a machine may have in a second: more would wait.
      await clock.advance(100);
      statuses.push(await ask(machine, "root", `guess ${guess}`));
    }
    const refused = await machine.guest.call("GET", PATH, { headers: { Authorization: "Basic eDp5" } });

    expect(arrived).toHaveLength(6);
    expect(statuses.filter((status) => status === 401)).toHaveLength(6);
    expect([refused.status, refused.text]).toEqual([403, expect.stringContaining("only its own token")]);
    expect(await brokenRules(machine)).toEqual(["too-many-wrong-credentials"]);
    expect(await ask(machine, "gitlab-ci-token", machine.token)).toBe(200);
  });

  test("is cut off as well when it guesses all at once, or the same again and again", async () => {
    const [one, other] = [await aMachine(), await aMachine()];
    await Promise.all(Array.from({ length: 30 }, (_, guess) => ask(one, "root", `guess ${guess}`)));
    const atOnce = arrived.length;
    for (let again = 0; again < 30; again++) await ask(other, "root", "the same");

    expect(atOnce).toBe(6);
    // All jobs together have used up what GitLab may hear in a minute.
    expect(arrived).toHaveLength(6);
  });

  test("is cut off as well when it hangs up before the answers", async () => {
    const machine = await aMachine();
    for (let guess = 0; guess < 20; guess++) {
      const socket = connect(machine.socketPath);
      const basic = Buffer.from(`slow:guess ${guess}`).toString("base64");
      socket.on("error", () => {});
      socket.write(`GET ${PATH} HTTP/1.1\r\nHost: r\r\nAuthorization: Basic ${basic}\r\n\r\n`);
      const known = arrived.length;
      const isAnswered = new Promise((resolve) => socket.once("data", () => resolve(true)));
      while (arrived.length === known && !(await Promise.race([isAnswered, pause(5)])));
      socket.destroy();
      await pause(20);
    }

    expect(arrived).toHaveLength(6);
  });

  test("with its own token under another name guesses too", async () => {
    const machine = await aMachine();
    for (let again = 0; again < 30; again++) await ask(machine, "root", machine.token);

    expect(arrived).toHaveLength(6);
  });
});

describe("a job that clones", () => {
  test("asks without credentials first as often as it likes, and then with its token", async () => {
    const machine = await aMachine();
    const statuses: number[] = [];
    for (let clone = 0; clone < 100; clone++) {
      statuses.push(await ask(machine), await ask(machine, "gitlab-ci-token", machine.token));
    }

    expect(new Set(statuses)).toEqual(new Set([401, 200]));
    expect(await brokenRules(machine)).toEqual([]);
  });

  test("with credentials of its own is not counted once GitLab has taken them, whatever others do", async () => {
    const [honest, hostile] = [await aMachine(), await aMachine()];
    expect(await ask(honest, "friend", "key")).toBe(200);
    for (let guess = 0; guess < 20; guess++) await ask(hostile, "root", `guess ${guess}`);
    const statuses = await Promise.all(Array.from({ length: 20 }, () => ask(honest, "friend", "key")));

    expect(new Set(statuses)).toEqual(new Set([200]));
  });
});
