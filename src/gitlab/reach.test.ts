import { expect, test } from "vitest";
import { createRecordingLog } from "../../test/builders/recording-log.ts";
import { answer, startHttpServer } from "../../test/servers/http-server.ts";
import { createManualClock } from "../base/manual-clock.ts";
import { createGitLabHttp } from "./http.ts";
import { createReach, describeOutage, watchReach } from "./reach.ts";

function aReach() {
  const clock = createManualClock();
  const { log, lines } = createRecordingLog();
  return { clock, lines, reach: createReach({ clock, log }) };
}

test("one failure, or several at once, is no outage yet", async () => {
  const { clock, lines, reach } = aReach();

  reach.failed("the connection was cut");
  await clock.advance(60_000);
  expect(reach.outage()).toBeUndefined();
  reach.answered();
  for (let each = 0; each < 10; each++) reach.failed("the connection was cut");

  expect(reach.outage()).toBeUndefined();
  expect(lines).toEqual([]);
});

test("nothing but failures for two seconds is one, said once a minute and again when it is over", async () => {
  const { clock, lines, reach } = aReach();
  const since = clock.now();

  for (let time = 0; time < 90_000; time += 1_000) {
    reach.failed("it answers 502");
    await clock.advance(1_000);
  }

  expect(reach.outage()).toEqual({ since, problem: "it answers 502" });
  expect(describeOutage(reach.outage(), clock.now())).toBe(
    "GitLab has not answered for 1m30s: it answers 502",
  );
  expect(lines.map((line) => line.slice(0, 28))).toEqual(Array(2).fill("warn GitLab does not answer "));
  reach.answered();
  expect(reach.outage()).toBeUndefined();
  expect(lines.at(-1)).toMatch(/^info GitLab answers again .*"forMs":90000/);
});

test("every request tells, whoever sends it; one that its sender gave up does not", async () => {
  let status = 200;
  const server = await startHttpServer((_request, response) => answer(response, status, ""));
  await using _server = server;
  const plain = createGitLabHttp({ url: server.url });
  const told: string[] = [];
  const http = watchReach(plain, {
    answered: () => void told.push("answered"),
    failed: (problem) => void told.push(problem),
    outage: () => undefined,
  });
  const ask = async (signal?: AbortSignal) => {
    const wanted = { method: "GET", path: "/", ...(signal ? { signal } : {}) } as const;
    await (await http.forward(wanted)).body.dump();
    await (await http.request(wanted)).body.dump();
  };

  for (status of [200, 403, 500, 502, 503]) await ask();
  await expect(ask(AbortSignal.abort())).rejects.toThrow();
  await plain.dispatcher.destroy();
  await expect(ask()).rejects.toThrow();

  expect(told).toEqual([
    ...Array(6).fill("answered"),
    ...["it answers 502", "it answers 502", "it answers 503", "it answers 503"],
    expect.stringContaining("GitLab cannot be reached"),
  ]);
});
