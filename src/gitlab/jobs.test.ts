import { expect, test } from "vitest";
import { aRestAnswering } from "../../test/builders/rest.ts";

const job = {
  id: 7,
  name: "build",
  status: "pending",
  stage: "test",
  created_at: "2026-05-01T10:00:00.000Z",
  web_url: "https://gitlab.example.org/acme/app/-/jobs/7",
  ref: "main",
  tag_list: ["docker", "Firecracker-2cpu-4gb"],
  runner: null,
};
const known = {
  id: 7,
  name: "build",
  status: "pending",
  tags: ["docker", "Firecracker-2cpu-4gb"],
  createdAt: Date.UTC(2026, 4, 1, 10),
  webUrl: "https://gitlab.example.org/acme/app/-/jobs/7",
  ref: "main",
};

test("lists pending jobs with their tags, by keyset", async () => {
  await using gitlab = await aRestAnswering(200, [job]);

  expect(await gitlab.rest.pendingJobs(3)).toEqual([known]);
  expect(gitlab.server.seen[0]?.path).toBe(
    "/api/v4/projects/3/jobs?scope[]=pending&pagination=keyset&order_by=id&sort=desc&per_page=100",
  );
});

test("reads one job, also one without what GitLab may leave out", async () => {
  await using gitlab = await aRestAnswering(200, { ...job, tag_list: undefined, web_url: null, ref: null });

  expect(await gitlab.rest.job(3, 7)).toEqual({ ...known, tags: [], webUrl: "", ref: "" });
  expect(gitlab.server.seen[0]?.path).toBe("/api/v4/projects/3/jobs/7");
});
