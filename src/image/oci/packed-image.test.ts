import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { run } from "../../base/process.ts";
import { kernelLayer } from "./packed-image.ts";

test("the kernel's layer holds kernel and initramfs where hosts look for them", async () => {
  await using directory = await temporaryDirectory();
  const [kernel, initramfs] = [join(directory.path, "k"), join(directory.path, "i")];
  await writeFile(kernel, "k".repeat(1000));
  await writeFile(initramfs, "i".repeat(512));
  const tar = join(directory.path, "layer.tar");

  const layer = await buffer(kernelLayer({ path: kernel, bytes: 1000 }, { path: initramfs, bytes: 512 }));

  await writeFile(tar, layer);
  expect((await run("tar", ["-tf", tar])).split("\n")).toEqual([
    "boot/",
    "boot/vmlinux",
    "boot/initrd.img",
    "",
  ]);
  expect(await run("tar", ["-xOf", tar, "boot/vmlinux"])).toBe("k".repeat(1000));
  expect(await run("tar", ["-xOf", tar, "boot/initrd.img"])).toBe("i".repeat(512));
});
