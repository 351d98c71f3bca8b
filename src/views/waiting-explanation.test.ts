import { describe, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aStore, type TestStore } from "../../test/builders/store.ts";
import { createManualClock } from "../base/manual-clock.ts";
import type { WaitingReport } from "./api.ts";
import { createViews } from "./views.ts";

const about = { project: "group/app", name: "build", tags: ["firecracker-2cpu-4gb"] };

interface Told {
  readonly report: WaitingReport | undefined;
}

/** What the views say of job 4711 after `live`, two minutes later. */
async function tell(
  live: (note: TestStore["store"]["note"]) => Promise<unknown>,
  words: readonly string[] = [],
): Promise<Told> {
  const clock = createManualClock();
  await using kept = await aStore({ clock });
  await live(kept.store.note);
  await clock.advance(120_000);
  const explainPending = async () => words;
  const story = await createViews({ store: kept.store, now: clock.now, explainPending }).job(4711);
  if (story && "job" in story) throw new Error("it was never claimed");
  return { report: story };
}

describe("why a job that nobody claimed here is where it is", () => {
  test("one that waits is told with what the rooms know of it", async () => {
    const { report } = await tell(
      async (note) => await note("job:noticed", { jobId: 4711 }, { ...about, hook: true }),
      ["GitLab refused to make a runner"],
    );

    expect(report?.waiting).toMatchObject({ ...about, id: 4711, standing: "waiting" });
    expect(report?.explanation.summary).toBe(
      "Job 4711 waits in GitLab for a runner of ours, noticed 2m0s ago.",
    );
    expect(report?.explanation.cause).toBe("GitLab refused to make a runner");
    expect(report?.events.map(({ text }) => text)).toEqual([
      "waits in GitLab for a runner with firecracker-2cpu-4gb",
    ]);
  });

  test("one that asks for too much is told why, and what to change", async () => {
    const reason = "99 CPUs are more than webhook.sizes.maxCpus allows";
    const { report } = await tell(
      async (note) => await note("job:left-alone", { jobId: 4711 }, { ...about, reason }),
      [reason],
    );

    expect(report?.waiting.standing).toBe("left-alone");
    expect(report?.explanation.cause).toBe(reason);
    expect(report?.explanation.advice.join()).toContain("change webhook.sizes.maxCpus,");
  });

  test("one that somebody else took waits no more", async () => {
    const { report } = await tell(async (note) => {
      await note("job:noticed", { jobId: 4711 }, { ...about, hook: false });
      await note("job:no-longer-pending", { jobId: 4711 }, {});
    });

    expect(report?.waiting).toMatchObject({ standing: "gone", project: "group/app" });
    expect(report?.explanation.cause).toBeNull();
  });

  test("one that waits again after it was left alone waits", async () => {
    const { report } = await tell(async (note) => {
      await note("job:left-alone", { jobId: 4711 }, { ...about, reason: "no image" });
      await note("job:noticed", { jobId: 4711 }, { ...about, hook: true });
    });

    expect(report?.waiting.standing).toBe("waiting");
    expect(report?.explanation.cause).toBeNull();
  });

  test("one that is in no event is not known", async () => {
    expect((await tell(async () => {})).report).toBeUndefined();
  });

  test("one that is in no event is told of as far as GitLab tells", async () => {
    const { report } = await tell(async () => {}, ["it has no tags, and none names a machine of ours"]);

    expect(report?.waiting).toMatchObject({ standing: "unseen", noticedAt: null });
    expect(report?.explanation.cause).toContain("it has no tags");
  });

  test("one that was claimed afterwards is told as a claimed one, from its first notice on", async () => {
    const clock = createManualClock();
    await using kept = await aStore({ clock });
    await kept.store.note("job:noticed", { jobId: 4711 }, { ...about, hook: true });
    await kept.store.claim(aClaim());

    const story = await createViews({ store: kept.store, now: clock.now }).job(4711);

    expect(story).toMatchObject({ job: { id: 4711 } });
    expect(story?.events[0]?.kind).toBe("job:noticed");
  });
});
