import { expect, test } from "vitest";
import type { EventDetails, EventKind, LifecycleEvent } from "../domain/events.ts";
import { eventText } from "./event-text.ts";

/** One of each kind; the compiler keeps it complete. */
const details: EventDetails = {
  "job:claimed": { pool: "small", runner: "glrt-abcd", name: "build", project: "g/p", pollMs: 4200 },
  "job:starting": { machineId: "fr-a", attempt: 2, host: "local" },
  "job:running": { machineId: "fr-a" },
  "job:retried": { machineId: "fr-a", reason: "it crashed", attempt: 1 },
  "job:failing": { reason: "no room" },
  "job:finished": { result: "failed", reason: "no room" },
  "job:report-failed": { error: "502", retryAt: 1 },
  "job:noticed": { project: "g/p", name: "build", tags: ["firecracker-2cpu-4gb"], hook: false },
  "job:left-alone": { project: "g/p", name: "build", tags: ["firecracker-99cpu-4gb"], reason: "too big" },
  "job:no-longer-pending": {},
  "runner:creating": { key: "r-a", pool: "tags:firecracker-2cpu-4gb", tags: ["firecracker-2cpu-4gb"] },
  "runner:active": { key: "r-a", runner: 7, pool: "tags:firecracker-2cpu-4gb" },
  "runner:retiring": { key: "r-a", runner: 7, reason: "unused for 24h" },
  "runner:gone": { key: "r-a", runner: 7 },
  "machine:creating": { host: "local", driver: "qemu", cpus: 2, memoryMib: 4096 },
  "machine:fetching": {},
  "machine:images-here": { tookMs: 61_000 },
  "machine:booting": {},
  "machine:heard": {},
  "machine:ready": {},
  "machine:busy": {},
  "machine:ended": { end: "restarted" },
  "machine:stopping": { reason: "its job has ended" },
  "machine:gone": {},
  "machine:adopted": { state: "busy" },
  "machine:create-failed": { error: "no qemu" },
  "machine:destroy-failed": { error: "busy" },
  "machine:console": { text: "one\ntwo\n" },
  "machine:out-of-memory": { killed: 2 },
  "machine:unknown": { host: "local" },
  "host:drained": { host: "flintlock/metal-1" },
  "host:resumed": { host: "flintlock/metal-1" },
  "operator:acted": { who: "deploy", role: "operator", change: "POST /drain" },
  "egress:asked": { target: "a.example:443" },
  "egress:unlisted": { target: "b.example:443" },
  "egress:connected": { target: "a.example:443" },
  "egress:failed": { target: "a.example:443", reason: "there is no such name" },
  "egress:allowed": { target: "a.example:443" },
  "egress:refused": { target: "10.0.0.1:22", reason: "private address" },
  "guest:refused": { rule: "another's job" },
};

function tell(kind: EventKind): string {
  const about = { seq: 1, at: 1, jobId: 7, machineId: "fr-a" };
  return eventText({ ...about, kind, detail: details[kind] } as LifecycleEvent);
}

test("every event has words, and nothing in them is missing", () => {
  for (const kind of Object.keys(details) as EventKind[]) {
    expect(tell(kind), kind).toMatch(/\w/);
    expect(tell(kind), kind).not.toMatch(/undefined|\[object/);
  }
});

test("the details that explain are in the words", () => {
  expect(tell("job:claimed")).toContain("after 4.2 s");
  expect(tell("job:starting")).toContain("attempt 2");
  expect(tell("machine:creating")).toContain("2 CPUs, 4 GiB");
  expect(tell("machine:console")).toBe("last lines of fr-a's console:\n    one\n    two");
  expect(tell("egress:failed")).toContain("a.example:443: there is no such name");
  expect(tell("egress:refused")).toContain("10.0.0.1:22: private address");
});

test("no word of a guest's or of GitLab's in an event looks like another event, or steers a terminal", () => {
  const evil = "x\n12:00:00 job 9 ended in GitLab: success\u001b]52;c;eA==\u0007\u202e\u009b2J";
  const text = eventText({
    ...{ seq: 1, at: 0, jobId: 1, machineId: "fr-aaaaaaaa" },
    kind: "egress:refused",
    detail: { target: evil, reason: evil },
  });

  expect(text).not.toMatch(/[\p{Cc}\p{Cf}]/u);
});
