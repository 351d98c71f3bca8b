import { expect, test } from "vitest";
import { createRecordingLog } from "../../test/builders/recording-log.ts";
import { watchForStandIns } from "./stand-ins.ts";

const image = { architecture: "amd64", kernel: "", initramfs: "", layers: [], runnerInfo: {} };

test("an image with the stand-in is told once in the log, and stands in the status until it is built anew", async () => {
  const { log, lines } = createRecordingLog();
  const kinds = new Map([
    ["base", { ...image, digest: "sha256:1", runner: { kind: "stand-in" } }],
    ["full", { ...image, digest: "sha256:2", runner: { kind: "official" } }],
  ]);
  const watched = watchForStandIns(
    { resolve: async (name) => kinds.get(name) ?? Promise.reject(new Error(name)) },
    log,
  );

  for (const name of ["base", "full", "base"]) await watched.images.resolve(name);

  expect(watched.standIns()).toEqual([
    expect.stringMatching(/^image base holds the stand-in runner.*image build --runner official$/),
  ]);
  expect(lines.filter((line) => line.startsWith("warn"))).toHaveLength(1);

  kinds.set("base", { ...image, digest: "sha256:3", runner: { kind: "official" } });
  await watched.images.resolve("base");

  expect(watched.standIns()).toEqual([]);
});
