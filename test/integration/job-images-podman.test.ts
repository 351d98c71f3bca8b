import { execFile } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { composeDisk, usualLimits } from "../../src/containers/compose/compose.ts";
import { imageOf, type LayerEntry, type TestImage, tarOf } from "../builders/layer.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { startDockerRegistry } from "../servers/docker-registry.ts";

/**
 * What podman and skopeo make of disks: `npm run test:podman`, as root, where both are installed with tar2sqfs, docker-registry and
 * busybox-static.
 */
const isWanted = process.env["FIRERUNNER_PODMAN"] === "1";
const NAME = "example.org/team/tool:1";

const exec = promisify(execFile);
const run = async (program: string, ...args: string[]) =>
  (await exec(program, args, { encoding: "utf8", timeout: 120_000 })).stdout;

const at = 1_700_000_000;
const directory = (path: string, mode = 0o755): LayerEntry => ({
  path: `${path}/`,
  type: "5",
  mode,
  mtimeS: at,
});
const file = (path: string, content: string | Buffer, mode = 0o644): LayerEntry => ({
  path,
  content,
  mode,
  uid: 7,
  mtimeS: at,
});

async function sample(): Promise<TestImage> {
  const long = `${"d".repeat(80)}/${"e".repeat(80)}`;
  return imageOf([
    tarOf([
      directory("."),
      directory("bin"),
      file("bin/busybox", await readFile("/bin/busybox"), 0o4755),
      { path: "bin/sh", type: "1", target: "bin/busybox", mode: 0o4755, uid: 7, mtimeS: at },
      { path: "bin/ls", type: "2", target: "busybox", mode: 0o777, mtimeS: at },
      directory("tmp", 0o1777),
      directory("old"),
      file("old/a", "a"),
      file("gone", "gone"),
      directory("hidden"),
      file("hidden/x", "x"),
      directory(long.split("/")[0] ?? ""),
      { ...directory("long"), pax: { path: long } },
      { ...file("long-file", "long"), pax: { path: `${long}/file`, "SCHILY.xattr.user.tag": "value" } },
      file("café", "latin"),
      { path: "pipe", type: "6", mode: 0o600, mtimeS: at },
    ]),
    tarOf([
      file(".wh.gone", ""),
      directory("old"),
      file("old/.wh.a", ""),
      directory("hidden"),
      file("hidden/.wh..wh..opq", ""),
      file("hidden/y", "y"),
      directory("etc"),
      file("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
    ]),
  ]);
}

/** The image as a directory that skopeo reads, and as a disk of ours that is mounted. */
async function prepared(path: string) {
  const image = await sample();
  const blobs = join(path, "oci/blobs/sha256");
  await mkdir(blobs, { recursive: true });
  const documents = [image.manifest, image.config].map(({ digest, body }) => ({ digest, body }));
  for (const { digest, body } of [
    ...documents,
    ...image.layers.map(({ digest, blob }) => ({ digest, body: blob })),
  ])
    await writeFile(join(blobs, digest.slice(7)), body);
  await writeFile(join(path, "oci/oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  const entry = {
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    digest: image.manifest.digest,
    size: image.manifest.body.length,
  };
  const annotations = { "org.opencontainers.image.ref.name": "t" };
  await writeFile(
    join(path, "oci/index.json"),
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...entry, annotations }] }),
  );
  const layers = image.layers.map(({ digest, blob, diffId }) => ({
    ...{ path: join(blobs, digest.slice(7)), digest, bytes: blob.length, diffId },
  }));
  const target = join(path, "disk.sqfs");
  await composeDisk({ ...image, names: [NAME], layers, target, limits: usualLimits, jobs: 1 });
  const mounted = join(path, "mounted");
  await mkdir(mounted);
  await run("mount", "-o", "loop,ro", target, mounted);
  const unmount = async () => void (await run("umount", "-l", mounted));
  return { image, mounted, unmount };
}

/** containers-storage mounts its directory upon itself. */
async function leaveStore(root: string): Promise<void> {
  await run("umount", "-l", join(root, "overlay")).catch(() => {});
}

const listing = ["-printf", "%P %y %m %U:%G %s %l %T@\\n"];
/**
 * Every entry, with its content and its attributes. Sizes of directories are their file system's own, and times of whiteouts those of the
 * unpacking. The root of a layer that says nothing of it is left out: versions of podman differ there.
 */
async function describeTree(root: string): Promise<string[]> {
  const entries = await run("find", root, ...listing);
  const sums = await run("sh", "-c", `cd "$1" && find . -type f -exec sha256sum {} +`, "sh", root);
  const attributes = await run(
    "sh",
    "-c",
    `cd "$1" && getfattr -R -h -d -m '^(user|trusted)' . 2>&1`,
    "sh",
    root,
  );
  const lines = entries
    .split("\n")
    .filter((line) => !line.startsWith(" d "))
    .map((line) => line.replace(/( d \d+ \S+) \d+/, "$1").replace(/( c 0 .*) \S+$/, "$1"));
  return [...lines, ...sums.split("\n"), ...attributes.split("\n")].filter((line) => line !== "").toSorted();
}

describe.skipIf(!isWanted)("a disk", () => {
  test("has the trees that containers-storage unpacks of the same image", async () => {
    await using place = await temporaryDirectory();
    const { mounted, unmount } = await prepared(place.path);
    const [root, state] = [join(place.path, "root"), join(place.path, "run")];
    try {
      await run(
        "skopeo",
        "copy",
        "-q",
        `oci:${place.path}/oci:t`,
        `containers-storage:[overlay@${root}+${state}]${NAME}`,
      );
      const ids = (await run("ls", join(mounted, "overlay")))
        .split("\n")
        .filter((name) => name.length === 64);

      expect(ids).toHaveLength(2);
      for (const id of ids)
        expect(await describeTree(join(mounted, "overlay", id, "diff"))).toEqual(
          await describeTree(join(root, "overlay", id, "diff")),
        );
    } finally {
      await leaveStore(root);
      await unmount();
    }
  });

  test("is run by podman, built upon, and pushed with the same digests", async () => {
    await using place = await temporaryDirectory();
    await using registry = await startDockerRegistry();
    const { image, mounted, unmount } = await prepared(place.path);
    const podman = [
      ...["podman", "--root", join(place.path, "root"), "--runroot", join(place.path, "run")],
      ...["--storage-driver", "overlay", "--storage-opt", `additionalimagestore=${mounted}`],
      ...["--cgroup-manager", "cgroupfs", "--events-backend", "file"],
    ];
    const server = `127.0.0.1:${registry.port}`;
    const limits = [
      "--cgroups=disabled",
      "--network=none",
      "--ulimit",
      "nofile=512:512",
      "--ulimit",
      "nproc=512:512",
    ];
    // crun wants the one kind of control groups or the other, and not both.
    const alone = 'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"';
    const manifestOf = async (name: string) =>
      JSON.parse(
        await run("skopeo", "inspect", "--tls-verify=false", "--raw", `docker://${server}/${name}`),
      ) as {
        config: { digest: string };
      };
    const diffIdsOf = async (name: string) =>
      (
        JSON.parse(
          await run("skopeo", "inspect", "--tls-verify=false", "--config", `docker://${server}/${name}`),
        ) as {
          rootfs: { diff_ids: string[] };
        }
      ).rootfs.diff_ids;
    try {
      const [program = "", ...options] = podman;
      const out = await run(
        "unshare",
        "-m",
        "sh",
        "-c",
        alone,
        "sh",
        ...podman,
        "run",
        "--rm",
        ...limits,
        NAME,
        "/bin/sh",
        "-c",
        "ls /hidden /old; [ ! -e /gone ] && echo well",
      );
      expect(out).toBe("/hidden:\ny\n\n/old:\nwell\n");

      await run(program, ...options, "push", "-q", "--tls-verify=false", NAME, `docker://${server}/pushed:1`);
      const id = (await run(program, ...options, "create", NAME, "/bin/sh")).trim();
      await run(program, ...options, "commit", "-q", id, "localhost/built:1");
      await run(
        program,
        ...options,
        "push",
        "-q",
        "--tls-verify=false",
        "localhost/built:1",
        `docker://${server}/built:1`,
      );

      const own = image.layers.map(({ diffId }) => diffId);
      expect((await manifestOf("pushed:1")).config.digest).toBe(image.config.digest);
      expect(await diffIdsOf("pushed:1")).toEqual(own);
      expect((await diffIdsOf("built:1")).slice(0, 2)).toEqual(own);
    } finally {
      await leaveStore(join(place.path, "root"));
      await unmount();
    }
  });
});
