import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import { writeHelperStore } from "./helper-store.ts";
import { sha256 } from "./manifest.ts";

test("the store of the helper image is one that the engine reads, with an empty place for each layer of the machine", async () => {
  await using directory = await temporaryDirectory();
  const read = async (path: string) => await readFile(join(directory.path, path), "utf8");

  await writeHelperStore(directory.path, "arm64", ["base", "runner"]);

  const [base, runner] = (await read("layers")).trim().split("\n");
  const layers = JSON.parse(await read("overlay-layers/layers.json"));
  expect(layers).toMatchObject([{ id: base }, { id: runner, parent: base }]);
  expect(await read("overlay-layers/layers.lock")).toBe("");
  expect(await read("overlay-images/images.lock")).toBe("");
  const link = await read(`overlay/${base}/link`);
  expect(link).toMatch(/^[A-Z0-9]{26}$/);
  expect(await read(`overlay/${runner}/lower`)).toBe(`l/${link}`);
  expect(await readlink(join(directory.path, "overlay/l", link))).toBe(`../${base}/diff`);
  for (const id of [base, runner]) {
    expect(await readdir(join(directory.path, `overlay/${id}/diff`))).toEqual([]);
    expect((await stat(join(directory.path, `overlay/${id}/work`))).isDirectory()).toBe(true);
  }
  const [image] = JSON.parse(await read("overlay-images/images.json"));
  expect(image).toMatchObject({ names: ["localhost/firerunner/helper:latest"], layer: runner });
  const contents = Object.entries(image["big-data-digests"] as Record<string, string>);
  expect(contents.map(([name]) => name)).toEqual([
    `sha256:${image.id}`,
    `manifest-${image.digest}`,
    "manifest",
  ]);
  for (const [name, digest] of contents) {
    const file = name === "manifest" ? name : `=${Buffer.from(name).toString("base64")}`;
    const content = await read(`overlay-images/${image.id}/${file}`);
    expect(`sha256:${sha256(content)}`).toBe(digest);
    if (name.startsWith("sha256:"))
      expect(JSON.parse(content)).toMatchObject({ architecture: "arm64", os: "linux" });
  }
});
