import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import type { DoctorCheck, Finding } from "./check.ts";

interface Need {
  readonly program: string;
  /** The Debian and Ubuntu package that has it. */
  readonly package: string;
}

const toRun: readonly Need[] = [
  {
    program: process.arch === "arm64" ? "qemu-system-aarch64" : "qemu-system-x86_64",
    package: process.arch === "arm64" ? "qemu-system-arm" : "qemu-system-x86",
  },
  { program: "socat", package: "socat" },
  { program: "mkfs.ext4", package: "e2fsprogs" },
];

const toBuild: readonly Need[] = [
  { program: "mmdebstrap", package: "mmdebstrap" },
  { program: "mksquashfs", package: "squashfs-tools" },
  { program: "unsquashfs", package: "squashfs-tools" },
  { program: "newuidmap", package: "uidmap" },
  { program: "gpgv", package: "gpgv" },
  { program: "cpio", package: "cpio" },
  { program: "xz", package: "xz-utils" },
  { program: "zstd", package: "zstd" },
];

/** The programs FireRunner calls. Without those that build images it still runs images that are there. */
export function programChecks(env: NodeJS.ProcessEnv): DoctorCheck[] {
  return [
    { name: "programs", run: () => look(env, toRun, "fail", "machines cannot be run without") },
    { name: "image tools", run: () => look(env, toBuild, "warn", "images cannot be built without") },
  ];
}

async function look(
  env: NodeJS.ProcessEnv,
  needs: readonly Need[],
  level: "warn" | "fail",
  meaning: string,
): Promise<Finding> {
  const found = await Promise.all(
    needs.map(async (need) => ({ ...need, isThere: await isInstalled(need.program, env) })),
  );
  const missing = found.filter(({ isThere }) => !isThere);
  if (missing.length === 0) return { level: "ok", message: needs.map(({ program }) => program).join(", ") };
  const packages = [...new Set(missing.map((each) => each.package))].join(" ");
  return {
    level,
    message: `${meaning} ${missing.map(({ program }) => program).join(", ")}`,
    hint: `apt-get install ${packages}`,
  };
}

/** Programs of administrators are often outside a user's PATH. */
async function isInstalled(program: string, env: NodeJS.ProcessEnv): Promise<boolean> {
  const directories = [...(env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/sbin"].filter(Boolean);
  const answers = directories.map((directory) =>
    access(join(directory, program), constants.X_OK).then(
      () => true,
      () => false,
    ),
  );
  return (await Promise.all(answers)).includes(true);
}
