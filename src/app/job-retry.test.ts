import { afterEach, beforeEach, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aStore, type TestStore } from "../../test/builders/store.ts";
import { systemClock } from "../base/clock.ts";
import type { FailureCause } from "../domain/job-end.ts";
import { createJobRetry } from "./job-retry.ts";

let kept: TestStore;
let asked: string[];

beforeEach(async () => {
  kept = await aStore({ clock: systemClock });
  asked = [];
});
afterEach(() => kept[Symbol.asyncDispose]());

const rest = {
  async retryJob(project: string, jobId: number) {
    asked.push(`${project} ${jobId}`);
    const rest = { name: "build", status: "pending", tags: [], createdAt: 0, ref: "main" };
    return { id: jobId + 1, webUrl: `https://gitlab.example.com/${project}/-/jobs/${jobId + 1}`, ...rest };
  },
};

async function failed(cause: FailureCause): Promise<void> {
  await kept.store.claim(aClaim({ jobId: 7, project: "group/app" }));
  await kept.store.finishJob(7, "failed", { reason: "it was so", cause });
}

test("a job that failed with its machine is run anew by GitLab", async () => {
  await failed("machine");

  const next = await createJobRetry({ store: kept.store, rest })(7);

  expect(next).toEqual({
    id: 8,
    webUrl: "https://gitlab.example.com/group/app/-/jobs/8",
    note: null,
  });
  expect(asked).toEqual(["group/app 7"]);
});

test("one that will fail again comes with why", async () => {
  await failed("unservable");

  expect(await createJobRetry({ store: kept.store, rest })(7)).toMatchObject({ note: expect.any(String) });
});

test.each([
  ["whose script failed", () => failed("script"), "conflict"],
  ["that runs", () => kept.store.claim(aClaim({ jobId: 7 })), "conflict"],
  [
    "that went well",
    async () => {
      await kept.store.claim(aClaim({ jobId: 7 }));
      await kept.store.finishJob(7, "success");
    },
    "conflict",
  ],
  ["that nobody knows", async () => {}, "not_found"],
])("a job %s is left alone", async (_name, prepare, code) => {
  await prepare();

  await expect(createJobRetry({ store: kept.store, rest })(7)).rejects.toMatchObject({ code });
  expect(asked).toEqual([]);
});

test("without an access token it says what to configure", async () => {
  await failed("machine");

  await expect(createJobRetry({ store: kept.store, rest: undefined })(7)).rejects.toMatchObject({
    code: "not_configured",
    hint: expect.stringContaining("webhook.apiTokenFile"),
  });
});
