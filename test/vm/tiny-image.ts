import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { run } from "../../src/base/process.ts";
import type { BootImage } from "../../src/domain/images.ts";

/**
 * The smallest guest that can show what a driver promises: Debian's kernel and one initramfs with busybox. It brings its
 * network up and then does what the relay's socket tells it: every connection it makes is answered with one shell command.
 */
const obedientInit = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev; $b mount -t proc proc /proc
case $($b cat /proc/cmdline) in *fr.smoke*) $b poweroff -f;; esac
for m in $($b cat /modules); do $b insmod /lib/$m; done
$b ip link set lo up; $b ip link set eth0 up; $b ip addr add 10.0.2.15/24 dev eth0
echo "tiny: up $($b cat /proc/cmdline)"
while :; do
  command=$(echo "hello" | $b nc 10.0.2.100 80)
  [ -n "$command" ] && { echo "tiny: $command"; eval "$command"; } || $b sleep 0.1
done
`;

/** In the order in which they must be loaded. */
const modules = [
  "virtio_ring",
  "virtio",
  "virtio_mmio",
  "virtio_blk",
  "failover",
  "net_failover",
  "virtio_net",
];

/** Builds the tiny image once per computer and content, and returns it. Needs apt, lz4, cpio and busybox-static. */
export async function tinyImage(init = obedientInit): Promise<BootImage> {
  const key = createHash("sha256").update(init).update(modules.join()).digest("hex").slice(0, 12);
  const cache = process.getuid?.() === 0 ? "/var/cache/firerunner" : join(homedir(), ".cache", "firerunner");
  const parent = join(cache, "test-tiny");
  const finished = join(parent, key);
  const files = await readdir(finished).catch((): string[] => []);
  if (!files.includes("initramfs")) await build(parent, finished, init);
  const kernel = join(finished, "vmlinux");
  const initramfs = join(finished, "initramfs");
  return { digest: `sha256:${key}`, architecture: "amd64", kernel, initramfs, layers: [] };
}

async function build(parent: string, finished: string, init: string): Promise<void> {
  await mkdir(parent, { recursive: true });
  const work = await mkdtemp(join(parent, "work-"));
  try {
    await unpackKernel(work);
    await packInitramfs(work, init);
    await chmod(work, 0o755);
    await rm(finished, { recursive: true, force: true });
    await rename(work, finished);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function unpackKernel(work: string): Promise<void> {
  const depends = await run("apt-cache", ["depends", "linux-image-cloud-amd64"]);
  const name = /Depends: (linux-image-[0-9]\S*)/.exec(depends)?.[1];
  if (name === undefined) throw new Error("apt knows no linux-image-cloud-amd64; run apt-get update");
  await run("apt-get", ["-qq", "-o", "APT::Sandbox::User=root", "download", name], { cwd: work });
  const deb = (await readdir(work)).find((file) => file.endsWith(".deb")) ?? "";
  await run("dpkg-deb", ["-x", join(work, deb), join(work, "kernel")]);
  await rm(join(work, deb));
  const boot = join(work, "kernel", "boot");
  const packed = (await readdir(boot)).find((file) => file.startsWith("vmlinuz-")) ?? "";
  await writeFile(join(work, "payload.lz4"), kernelPayload(await readFile(join(boot, packed))));
  await run("lz4", ["-qdf", join(work, "payload.lz4"), join(work, "vmlinux")]);
  await rm(join(work, "payload.lz4"));
}

/** The compressed ELF inside a bzImage; offsets as in the kernel's Documentation/arch/x86/boot.rst. */
function kernelPayload(image: Buffer): Buffer {
  const start = (image.readUInt8(0x1f1) + 1) * 512 + image.readUInt32LE(0x248);
  return image.subarray(start, start + image.readUInt32LE(0x24c) - 4);
}

async function packInitramfs(work: string, init: string): Promise<void> {
  const tree = join(work, "tree");
  await mkdir(join(tree, "bin"), { recursive: true });
  for (const directory of ["dev", "proc", "lib"]) await mkdir(join(tree, directory));
  await run("cp", ["/bin/busybox", join(tree, "bin", "busybox")]);
  await symlink("busybox", join(tree, "bin", "sh"));
  const found = (await readdir(join(work, "kernel", "lib"), { recursive: true, withFileTypes: true })).filter(
    (entry) => entry.isFile(),
  );
  for (const name of modules) {
    const file = found.find((entry) => entry.name === `${name}.ko`);
    if (!file) throw new Error(`the kernel package has no module ${name}`);
    await run("cp", [join(file.parentPath, file.name), join(tree, "lib", file.name)]);
  }
  await writeFile(join(tree, "modules"), modules.map((name) => `${name}.ko`).join(" "));
  await writeFile(join(tree, "init"), init, { mode: 0o755 });
  const list = (await readdir(tree, { recursive: true })).join("\n");
  await run("sh", ["-c", "cpio -o -H newc --quiet -R 0:0 >../initramfs"], { cwd: tree, input: list });
  await rm(tree, { recursive: true });
  await rm(join(work, "kernel"), { recursive: true });
}
