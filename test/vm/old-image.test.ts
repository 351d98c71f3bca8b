import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { hashFile } from "../../src/base/durable-file.ts";
import { linkOrCopy } from "../../src/image/durable.ts";
import { buildInitramfs } from "../../src/image/initramfs.ts";
import { imageDigest, shortDigest } from "../../src/image/manifest.ts";
import { makeSquashfsFromDirectory } from "../../src/image/squashfs.ts";
import { createImageStore } from "../../src/image/store.ts";
import type { Status } from "../../src/views/api.ts";
import { testImageDirectory } from "../harness/image.ts";
import { createInstallation } from "../harness/installation.ts";
import { placeOldGuest } from "./guest-before/place.ts";

test("a job runs in a machine of an image that an earlier release built, and status says what its machines cannot do", async () => {
  const images = await mkdtemp(join(tmpdir(), "fr-images-"));
  try {
    await buildOldImage(images);
    const installation = await createInstallation({ settings: { images: { directory: images } } });
    const daemon = await installation.start();
    try {
      const { gitlab } = installation;
      const repository = { files: { "word.txt": "from git\n" } };
      const project = await gitlab.projects.add({ path: "group/before", repository });
      const job = await gitlab.addJob(project, { script: ["cat word.txt", "echo in $PWD"] });

      await gitlab.waitForJob(job, "success", 120_000);

      expect(job.trace.text()).toContain("\nfrom git\n");
      // The guest's own way of then: what is new is not asked of it.
      expect(job.trace.text()).toMatch(/\nin \/builds\/frmt-\S+\/0\/group\/before\n/);
      expect(job.traceCheck?.matches).toBe(true);
      expect((await daemon.get<Status>("/v1/status")).pools[0]?.imageNote).toEqual({
        problem: expect.stringContaining("it lacks background, project-folder, log-limit, lfs"),
        hint: expect.stringContaining("firerunner image build"),
      });
      expect(gitlab.violations).toEqual([]);
    } finally {
      await daemon.stop();
      await installation.close();
    }
  } finally {
    await rm(images, { recursive: true, force: true });
  }
});

/** An image as the release before built it: its files in machines, its image.json, over the base layer that is here. */
async function buildOldImage(images: string): Promise<void> {
  const tested = await createImageStore({ directory: testImageDirectory() }).find("base");
  if (!tested) throw new Error("there is no test image");
  const work = join(images, ".work");
  const root = join(work, "root");
  await mkdir(root, { recursive: true });
  await placeOldGuest(root);
  for (const name of ["base.squashfs", "vmlinux"])
    await linkOrCopy(join(tested.directory, name), join(work, name));
  const { kernelVersion } = tested.manifest;
  const init = join(import.meta.dirname, "guest-before/initramfs-init");
  const base = join(work, "base.squashfs");
  await writeFile(join(work, "initramfs.gz"), await buildInitramfs(base, kernelVersion, work, { init }));
  await makeSquashfsFromDirectory(root, join(work, "runner.squashfs"), 1_672_531_200, undefined);
  const file = async (path: string) => ({ path, ...(await hashFile(join(work, path))) });
  const files = {
    kernel: await file("vmlinux"),
    initramfs: await file("initramfs.gz"),
    layers: [await file("base.squashfs"), await file("runner.squashfs")],
  };
  const { abilities: _, variant: __, ...before } = tested.manifest;
  const digest = imageDigest(files);
  const target = join(images, shortDigest(digest));
  await mkdir(target);
  for (const { path } of [files.kernel, files.initramfs, ...files.layers]) {
    await linkOrCopy(join(work, path), join(target, path));
    await chmod(join(target, path), 0o644);
  }
  await writeFile(join(target, "image.json"), JSON.stringify({ ...before, digest, files }));
  await rm(work, { recursive: true });
  await mkdir(join(images, "names"));
  await writeFile(join(images, "names/base"), `${digest}\n`);
  await chmod(images, 0o755);
  await chmod(target, 0o755);
}
