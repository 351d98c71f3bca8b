/**
 * Which packages an image has, and where they come from. The host's own apt says which mirrors can be reached; of those only the
 * distribution's own archives are used (other vendors' repositories never get into an image), and their signatures are
 * checked against the distribution's keyring, so that a repository cannot pass by merely calling itself Debian.
 */
import { ImageError } from "./errors.ts";

export interface PackageSources {
  readonly distribution: Distribution;
  readonly suite: string;
  /** sources.list lines for building. */
  readonly build: readonly string[];
  /** sources.list lines that stay in the image: public, without mirrors or credentials of the build host. */
  readonly guest: readonly string[];
}

export type Distribution = "debian" | "ubuntu";

interface IndexTarget {
  readonly origin: string;
  readonly uri: string;
  readonly codename: string;
  readonly component: string;
}

interface HostRelease {
  readonly id: string;
  readonly codename: string;
}

const distributions = {
  debian: {
    origin: "Debian",
    keyring: "/usr/share/keyrings/debian-archive-keyring.gpg",
    components: ["main"],
    publicLines: (suite: string) => [
      `deb http://deb.debian.org/debian ${suite} main`,
      `deb http://deb.debian.org/debian ${suite}-updates main`,
      `deb http://deb.debian.org/debian-security ${suite}-security main`,
    ],
  },
  ubuntu: {
    origin: "Ubuntu",
    keyring: "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
    components: ["main", "universe"],
    publicLines: (suite: string) =>
      ["", "-updates", "-security"].map(
        (pocket) => `deb http://archive.ubuntu.com/ubuntu ${suite}${pocket} main universe`,
      ),
  },
} as const;

/** The answer of `apt-get indextargets`: paragraphs of `Name: value`. Those without an address are left out. */
export function parseIndexTargets(text: string): IndexTarget[] {
  return text
    .split(/\n\s*\n/)
    .map((paragraph) => new Map([...paragraph.matchAll(/^([\w-]+): (.*)$/gm)].map((m) => [m[1], m[2] ?? ""])))
    .map((fields) => ({
      origin: fields.get("Origin") ?? "",
      uri: fields.get("Repo-URI") ?? "",
      codename: fields.get("Codename") ?? "",
      component: fields.get("Component") ?? "",
    }))
    .filter((target) => target.uri !== "");
}

/** `ID` and `VERSION_CODENAME` of os-release. */
export function parseHostRelease(osRelease: string): HostRelease {
  const field = (name: string) => new RegExp(`^${name}="?([^"\n]*)"?$`, "m").exec(osRelease)?.[1] ?? "";
  return { id: field("ID"), codename: field("VERSION_CODENAME") };
}

interface WantedSources {
  readonly suite?: string | undefined;
  readonly configured?: readonly string[] | undefined;
}

/**
 * `configured` lines win and stay in the image (without user names and passwords in their addresses). Otherwise the
 * host's mirrors are used, with `suite` in place of the host's own when it is given.
 */
export function choosePackageSources(
  host: HostRelease,
  targets: readonly IndexTarget[],
  wanted: WantedSources,
): PackageSources {
  const distribution: Distribution = host.id === "ubuntu" ? "ubuntu" : "debian";
  if (wanted.configured?.length) return fromConfiguration(distribution, wanted.configured, wanted.suite);
  const suite = wanted.suite ?? host.codename;
  const { origin, keyring, components, publicLines } = distributions[distribution];
  const own = targets.filter(
    (target) => target.origin === origin && (components as readonly string[]).includes(target.component),
  );
  const pockets = own.filter(({ codename }) => isPocketOf(codename, host.codename));
  const lines = pockets.map(
    ({ uri, codename, component }) =>
      `deb [signed-by=${keyring}] ${uri} ${suite}${codename.slice(host.codename.length)} ${component}`,
  );
  if (suite === "" || !pockets.some(({ codename }) => codename === host.codename)) throw noSources(origin);
  return { distribution, suite, build: [...new Set(lines)].sort(), guest: publicLines(suite) };
}

/** Debian's release for images that run containers, whatever this computer has: the podman of the one before has known faults in its names. */
const CONTAINERS_SUITE = "trixie";

/**
 * The sources of an image that runs containers: Debian's mirrors that this computer uses, or those configured, with that release in
 * place of theirs; Debian's public archive where this computer is no Debian and nothing is configured.
 */
export function chooseContainersSources(
  host: HostRelease,
  targets: readonly IndexTarget[],
  configured?: readonly string[],
): PackageSources {
  const suite = CONTAINERS_SUITE;
  if (configured?.length) return fromConfiguration("debian", configured.map(inContainersSuite), suite);
  if (host.id === "debian") return choosePackageSources(host, targets, { suite });
  const { keyring, publicLines } = distributions.debian;
  const build = publicLines(suite).map((line) => line.replace("deb ", `deb [signed-by=${keyring}] `));
  return { distribution: "debian", suite, build, guest: publicLines(suite) };
}

/** `deb http://mirror/debian bookworm-updates main` → `deb http://mirror/debian trixie-updates main` */
function inContainersSuite(line: string): string {
  const suite = /^(deb\s+(?:\[[^\]]*\]\s+)?\S+\s+)[a-z]+(?=[-\s])/;
  return line.replace(suite, `$1${CONTAINERS_SUITE}`);
}

function isPocketOf(codename: string, suite: string): boolean {
  return suite !== "" && ["", "-updates", "-security"].some((pocket) => codename === suite + pocket);
}

function fromConfiguration(
  distribution: Distribution,
  lines: readonly string[],
  suite: string | undefined,
): PackageSources {
  const first = /^deb\s+(?:\[[^\]]*\]\s+)?\S+\s+(\S+)/.exec(lines[0] ?? "")?.[1];
  const chosen = suite ?? first;
  if (chosen === undefined)
    throw new ImageError("image_no_sources", `“${lines[0]}” is not a package source`, {
      hint: "write sources as in sources.list: deb http://MIRROR/debian bookworm main",
    });
  const guest = lines.map((line) => line.replace(/\s\[[^\]]*\]/, "").replace(/(:\/\/)[^/@\s]*@/, "$1"));
  return { distribution, suite: chosen, build: lines, guest };
}

function noSources(origin: string): ImageError {
  return new ImageError(
    "image_no_sources",
    `apt on this computer has no usable ${origin} source for its own release`,
    {
      hint: "run apt-get update, or configure images.sources, such as: deb http://MIRROR/debian bookworm main",
    },
  );
}

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

/** What runs job images, services and builds; `docker` for scripts that call it. netavark calls `nft`, the runner may ask for catatonit. */
const CONTAINERS = [
  ...["aardvark-dns", "catatonit", "conmon", "crun", "docker-cli", "docker-compose"],
  ...["netavark", "nftables", "podman"],
] as const;

/** Docker's own engine beside podman, with BuildKit in it, and the command line's part for that. */
const DOCKER_ENGINE = ["docker-buildx", "docker.io"] as const;

export const variants = ["base", "full", "containers", "docker"] as const;
export type Variant = (typeof variants)[number];

/** Whether machines of this variant run jobs in containers. */
export function runsContainers(variant: Variant): boolean {
  return variant === "containers" || variant === "docker";
}

const ADDED: Readonly<Record<Variant, readonly string[]>> = {
  base: [],
  full: COMPILING,
  containers: CONTAINERS,
  docker: [...CONTAINERS, ...DOCKER_ENGINE],
};

/** The packages of a base layer, apart from those that the configuration adds. */
export function packagesOf(variant: Variant): string[] {
  return [...NEEDED, ...USUAL, ...ADDED[variant]];
}
