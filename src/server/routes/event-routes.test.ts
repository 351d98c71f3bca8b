import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Agent, request } from "undici";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aControlPorts } from "../../../test/builders/control-ports.ts";
import { aClaim } from "../../../test/builders/job.ts";
import { aStore, type TestStore } from "../../../test/builders/store.ts";
import { systemClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { EventList } from "../../views/api.ts";
import { createViews } from "../../views/views.ts";
import { type ControlServer, openControlServer } from "../control/control-server.ts";
import { createEventFeed } from "./event-routes.ts";
import type { ControlPorts } from "./ports.ts";

let directory: string;
let kept: TestStore;
let server: ControlServer;
let agent: Agent;
let changes: string[];
let ports: ControlPorts;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-events-"));
  kept = await aStore({ clock: systemClock });
  agent = new Agent({ connect: { socketPath: join(directory, "control.sock") } });
  changes = [];
  ports = {
    ...aControlPorts(),
    status: () => {
      throw new Error("not asked here");
    },
    events: createEventFeed(kept.store.onEvent),
    noteChange: async ({ name, role }, change) => void changes.push(`${name} (${role}): ${change}`),
  };
  server = await openControlServer({
    stateDirectory: directory,
    views: createViews({ store: kept.store, now: systemClock.now }),
    ports,
    clock: systemClock,
    log: silentLog,
  });
});

afterEach(async () => {
  await agent.destroy();
  await server.close();
  await kept[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

const ask = (path: string, options: { method?: "POST"; headers?: Record<string, string> } = {}) =>
  request(`http://control/v1${path}`, { dispatcher: agent, ...options });

/** Reads a stream until it has said `enough`. */
async function listen(path: string, enough: RegExp, headers: Record<string, string> = {}): Promise<string> {
  const { body } = await ask(path, { headers });
  let heard = "";
  for await (const part of body.setEncoding("utf8")) {
    heard += part;
    if (enough.test(heard)) break;
  }
  return heard;
}

const idsIn = (heard: string) => [...heard.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id));

describe("events by pages", () => {
  test("begin behind a number, and can be those of one job", async () => {
    for (const jobId of [1, 2, 3]) await kept.store.claim(aClaim({ jobId }));

    const first = EventList.parse(await (await ask("/events?limit=2")).body.json());
    const rest = EventList.parse(await (await ask(`/events?after=${first.events.at(-1)?.seq}`)).body.json());
    const ofOne = EventList.parse(await (await ask("/events?job=2")).body.json());

    expect([...first.events, ...rest.events].map(({ jobId }) => jobId)).toEqual([1, 2, 3]);
    expect(ofOne.events.map(({ jobId }) => jobId)).toEqual([2]);
    expect((await ask("/events?after=-1")).statusCode).toBe(400);
  });
});

describe("events as they happen", () => {
  test("begin with what happens from now on", async () => {
    await kept.store.claim(aClaim({ jobId: 1 }));
    const heard = listen("/events/stream", /^id: /m);
    await expect.poll(() => ports.events.streams).toBe(1);

    await kept.store.claim(aClaim({ jobId: 2 }));

    expect(await heard).toMatch(/: connected\n\nid: 2\ndata: \{"seq":2,.*"jobId":2,/);
    await expect.poll(() => ports.events.streams).toBe(0);
  });

  test("a reader that comes back misses nothing and hears nothing twice", async () => {
    for (const jobId of [1, 2, 3, 4]) await kept.store.claim(aClaim({ jobId }));

    const heard = await listen("/events/stream", /^id: 4$/m, { "last-event-id": "2" });

    expect(idsIn(heard)).toEqual([3, 4]);
    expect(heard).not.toContain("gap");
  });

  test("what is no longer kept is told of", async () => {
    for (const jobId of [1, 2]) await kept.store.claim(aClaim({ jobId }));
    await kept.store.finishJob(1, "success");
    await kept.store.finishJob(2, "success");
    await kept.store.prune(systemClock.now() + 1_000);
    await kept.store.claim(aClaim({ jobId: 3 }));

    const heard = await listen("/events/stream?after=1", /^id: 5$/m);

    expect(heard).toContain('event: gap\ndata: {"first":2,"last":4}\n\nid: 5\n');
  });

  test("thousands at once come all, in order", async () => {
    for (let jobId = 1; jobId <= 1_200; jobId++) await kept.store.claim(aClaim({ jobId }));

    const ids = idsIn(await listen("/events/stream?after=0", /^id: 1200$/m));

    expect(ids).toEqual(Array.from({ length: 1_200 }, (_, index) => index + 1));
  });

  test("are for so many readers, and no more", async () => {
    const many = { ...ports.events, streams: 64 };
    Object.assign(ports, { events: many });

    const { statusCode, body } = await ask("/events/stream");

    expect(statusCode).toBe(429);
    expect(await body.json()).toMatchObject({ code: "too_many", hint: expect.stringContaining("/events") });
  });
});

test("who has changed something is noted, and who looks is not", async () => {
  await (await ask("/jobs")).body.dump();
  await (await ask("/hosts/metal-1/drain?x=1", { method: "POST" })).body.dump();

  expect(changes).toEqual(["the command line (admin): POST /hosts/metal-1/drain"]);
});
