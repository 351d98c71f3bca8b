import { cp, mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createImageStore } from "../../src/image/store.ts";
import { testImageDirectory } from "../harness/image.ts";

/**
 * The tests' image `base` in a directory of its own, as if it had been pushed: its files are those of the shared directory. Answers
 * where a host would pull it from.
 */
export async function publishedImages(directory: string) {
  const shared = testImageDirectory();
  const base = await createImageStore({ directory: shared }).find("base");
  if (!base) throw new Error(`there is no image base in ${shared}`);
  const own = join(directory, base.directory.slice(shared.length));
  await mkdir(own, { recursive: true });
  await cp(join(shared, "names"), join(directory, "names"), { recursive: true });
  for (const file of await readdir(base.directory))
    if (file !== "published.json") await symlink(join(base.directory, file), join(own, file));
  const name = "localhost:5000/test";
  const published = {
    kernel: `${name}/kernel@sha256:${"a".repeat(64)}`,
    root: `${name}/root@sha256:${"b".repeat(64)}`,
  };
  const publication = {
    registry: "localhost:5000",
    name: "test",
    tags: ["latest"],
    ...published,
    pushedAt: 1,
  };
  await writeFile(join(own, "published.json"), JSON.stringify({ schema: 1, publications: [publication] }));
  return published;
}
