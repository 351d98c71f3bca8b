/** What every base layer has; `busybox` and `kmod` also serve the initramfs and the machine's init, `socat` its way to a relay elsewhere. */
const NEEDED = ["bash", "busybox-static", "ca-certificates", "curl", "git", "kmod", "socat"] as const;

/** What scripts written for other people's shell machines call without asking. */
const USUAL = [
  ...["bzip2", "git-lfs", "iproute2", "jq", "less", "make", "openssh-client", "procps", "python3"],
  ...["sudo", "unzip", "wget", "xz-utils", "zip"],
] as const;

/** What compiles: most native extensions of most languages build with these. */
const COMPILING = [
  ...[
    "autoconf",
    "automake",
    "bc",
    "build-essential",
    "cmake",
    "file",
    "gettext-base",
    "libffi-dev",
    "libssl-dev",
  ],
  ...["libtool", "patch", "pkg-config", "python3-dev", "python3-pip", "python3-venv", "rsync", "zlib1g-dev"],
] as const;

export const variants = ["base", "full"] as const;
export type Variant = (typeof variants)[number];

/** The packages of a base layer, apart from those that the configuration adds. */
export function packagesOf(variant: Variant): string[] {
  return [...NEEDED, ...USUAL, ...(variant === "full" ? COMPILING : [])];
}
