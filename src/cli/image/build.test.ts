import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { createBuildScreen } from "./build.ts";

test("elsewhere than on a terminal there is a line for each phase and quarter", () => {
  const output = new PassThrough();
  const { show, close } = createBuildScreen(output);

  show({ phase: "packages" });
  show({ phase: "runner", fraction: 0 });
  for (const fraction of [0.1, 0.26, 0.3, 0.49, 0.5, 1]) show({ phase: "runner", fraction });
  show({ phase: "done" });
  close();

  expect(String(output.read()).trimEnd().split("\n")).toEqual([
    "image: packages",
    "image: gitlab-runner",
    "image: gitlab-runner 25 %",
    "image: gitlab-runner 50 %",
    "image: gitlab-runner 100 %",
    "image: done",
  ]);
});

test("on a terminal one line with a bar is drawn anew and fits", () => {
  const output = Object.assign(new PassThrough(), { isTTY: true, columns: 60 });
  const { show, close } = createBuildScreen(output);

  show({ phase: "runner", fraction: 0.5, line: `downloading\n${"x".repeat(100)}` });
  const drawn = String(output.read());
  close();

  expect(drawn).toContain("████████████░░░░░░░░░░░░ 50 %");
  expect(drawn).not.toContain("\n");
  expect(drawn.replace("\r\u001b[K", "")).toHaveLength(59);
  expect(String(output.read())).toBe("\r\u001b[K");
});
