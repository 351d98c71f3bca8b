/**
 * Files and directories that nobody else may change. What this program trusts lies in files: what it does, with which secrets, what
 * machines boot. A file is trusted when nobody but root and the user FireRunner runs as can change it, by itself or by any directory on
 * the way to it. One rule for all of them; directories of our own are made so that they fulfil it.
 */
import { constants, type Stats } from "node:fs";
import { type FileHandle, lstat, mkdir, open, readlink, stat } from "node:fs/promises";
import { dirname, isAbsolute, join } from "node:path";
import { describeError, FireRunnerError, systemCode } from "./errors.ts";

type UntrustedCode =
  /** A file or a directory that FireRunner relies on can be changed, or a secret be read, by others. */
  "untrusted_file";

export class UntrustedError extends FireRunnerError {
  declare readonly code: UntrustedCode;
  /** The command that puts it right. */
  readonly remedy: string;

  constructor({ problem, remedy }: Distrust) {
    super("untrusted_file", problem, {
      hint: `if that is not meant to be so, look at what is in it; then: ${remedy}`,
    });
    this.remedy = remedy;
  }
}

/** Owner, group and mode, as `stat` gives them. */
type PathTrust = Pick<Stats, "uid" | "gid" | "mode">;

/** On whose behalf this program works. */
export interface Us {
  readonly uid: number;
  readonly gid: number;
  readonly groups: ReadonlySet<number>;
}

interface Distrust {
  readonly problem: string;
  readonly remedy: string;
}

const STICKY = 0o1000;
const MOST_LINKS = 40;
const ROOT = 0;

export function ourselves(): Us {
  const { getuid, getegid, getgroups } = process;
  const gid = getegid?.() ?? ROOT;
  return { uid: getuid?.() ?? ROOT, gid, groups: new Set([gid, ...(getgroups?.() ?? [])]) };
}

/** Why others could change this; undefined when they cannot. */
export function changeableBy(path: string, { uid, gid, mode }: PathTrust, us: Us): Distrust | undefined {
  if (uid !== ROOT && uid !== us.uid) {
    const trusted =
      us.uid === ROOT ? "root, who runs FireRunner" : `root or the user FireRunner runs as (${us.uid})`;
    return {
      problem: `${path} belongs to user ${uid}, not to ${trusted}`,
      remedy: us.uid === ROOT ? `chown root ${path}` : `chown ${us.uid} ${path} (as root)`,
    };
  }
  // Where each user has a group of their own, umask lets that group write: nobody else is in it.
  const others = isOwnGroup(gid, us) ? 0o002 : 0o022;
  if ((mode & others) === 0) return undefined;
  const who = (mode & 0o002) !== 0 ? "everyone on this computer" : `group ${gid}`;
  return {
    problem: `others than its owner may change ${path}: ${who} may write to it (mode ${octal(mode)})`,
    remedy: `chmod go-w ${path}`,
  };
}

/** Why others could read a secret in this file; undefined when they cannot. A group may that is root's or one of ours. */
export function readableBy(
  path: string,
  { gid, mode }: Omit<PathTrust, "uid">,
  us: Us,
): Distrust | undefined {
  if ((mode & 0o004) !== 0) {
    return {
      problem: `${path} holds a secret and everyone on this computer may read it (mode ${octal(mode)})`,
      remedy: `chmod 600 ${path}`,
    };
  }
  if ((mode & 0o040) === 0 || gid === ROOT || us.groups.has(gid)) return undefined;
  return {
    problem: `${path} holds a secret and group ${gid}, which is not one of FireRunner's, may read it (mode ${octal(mode)})`,
    remedy: `chmod 600 ${path}`,
  };
}

/** Throws UntrustedError when others can change `path`, and the system's own error when it cannot be looked at. */
export async function requireTrusted(path: string, us: Us = ourselves()): Promise<Stats> {
  const real = await requireTrustedWay(path, us);
  const found = await lstat(real);
  refuse(changeableBy(path, found, us));
  return found;
}

/** What an open file is, with what its own descriptor says of it: nothing can be put in its place any more. */
interface TrustedFile extends AsyncDisposable {
  readonly handle: FileHandle;
  readonly status: Stats;
}

/**
 * Opens a file for reading that others cannot change. Throws UntrustedError, the system's own error, or an Error with code `EISDIR` or
 * `EINVAL` for what is no plain file.
 */
export async function openTrusted(path: string, us: Us = ourselves()): Promise<TrustedFile> {
  const real = await requireTrustedWay(path, us);
  // A pipe would keep us waiting for somebody to write.
  const handle = await open(real, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const status = await handle.stat();
    if (status.isDirectory()) throw Object.assign(new Error(`${path} is a directory`), { code: "EISDIR" });
    if (!status.isFile()) throw Object.assign(new Error(`${path} is no plain file`), { code: "EINVAL" });
    refuse(changeableBy(path, status, us));
    return { handle, status, [Symbol.asyncDispose]: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Reads a file whole that others cannot change and, if it is `secret`, not read. Throws as `openTrusted` does; `EFBIG` when it is too long. */
export async function readTrusted(
  path: string,
  options: { readonly maxBytes: number; readonly secret: boolean },
  us: Us = ourselves(),
): Promise<Buffer> {
  await using file = await openTrusted(path, us);
  if (options.secret) refuse(readableBy(path, file.status, us));
  if (file.status.size > options.maxBytes)
    throw Object.assign(new Error(`${path} is too long`), { code: "EFBIG" });
  return await file.handle.readFile();
}

/**
 * Walks to `path` as the system does, link by link. Each directory on the way must be one in which others cannot put another thing
 * in place of what is there. Returns where the last part really lies.
 */
async function requireTrustedWay(path: string, us: Us): Promise<string> {
  // Not by `resolve`, which takes `..` back before a link is followed.
  const left = partsOf(isAbsolute(path) ? path : `${process.cwd()}/${path}`);
  const walk: Walk = { here: "/", left, links: 0 };
  refuse(replaceableIn(walk.here, await lstat(walk.here), us));
  while (walk.left.length > 0) await step(walk, us);
  return walk.here;
}

interface Walk {
  /** Has no links in it. */
  here: string;
  readonly left: string[];
  links: number;
}

async function step(walk: Walk, us: Us): Promise<void> {
  const name = walk.left.shift() ?? "";
  const next = name === ".." ? dirname(walk.here) : join(walk.here, name);
  const found = await lstat(next);
  if (!found.isSymbolicLink()) {
    if (walk.left.length > 0) refuse(replaceableIn(next, found, us));
    walk.here = next;
    return;
  }
  refuse(linkOfOthers(next, found, us));
  walk.links += 1;
  if (walk.links > MOST_LINKS) throw Object.assign(new Error(`${next} leads in circles`), { code: "ELOOP" });
  const target = await readlink(next);
  if (isAbsolute(target)) walk.here = "/";
  walk.left.unshift(...partsOf(target));
}

function partsOf(path: string): string[] {
  return path.split("/").filter((part) => part !== "" && part !== ".");
}

/** In a directory with the sticky bit, such as /tmp, nobody can remove or replace what belongs to others. */
function replaceableIn(directory: string, found: Stats, us: Us): Distrust | undefined {
  const mode = (found.mode & STICKY) === 0 ? found.mode : found.mode & ~0o022;
  return changeableBy(directory, { uid: found.uid, gid: found.gid, mode }, us);
}

/** Its mode says nothing, its owner could have made it in a directory with the sticky bit. */
function linkOfOthers(path: string, { uid, gid }: Stats, us: Us): Distrust | undefined {
  const distrust = changeableBy(path, { uid, gid, mode: 0 }, us);
  return (
    distrust && {
      problem: `the link ${distrust.problem}`,
      remedy: distrust.remedy.replace("chown", "chown -h"),
    }
  );
}

function isOwnGroup(gid: number, us: Us): boolean {
  return us.uid !== ROOT && gid === us.gid && us.gid === us.uid;
}

function octal(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, "0");
}

function refuse(distrust: Distrust | undefined): void {
  if (distrust) throw new UntrustedError(distrust);
}

/**
 * Makes a directory, and those above it that are missing, all with `mode`. What is there stays as it is. Throws FireRunnerError
 * `directory_failed`. Node's recursive mkdir is not used for paths that people name: where a file system takes no directories but
 * answers ENOENT, as /proc does, it tries again for ever in a thread that nothing ends.
 */
export async function makeDirectory(path: string, mode: number): Promise<void> {
  try {
    await make(path, mode);
  } catch (cause) {
    const code = systemCode(cause) ?? "";
    // Of a system's error only the part that says more than this is passed on: “/proc/x does not exist” would not help.
    const reason = code === "ENOENT" ? "its file system takes no directories" : describeError(cause);
    throw new FireRunnerError("directory_failed", `the directory ${path} cannot be made: ${reason}`, {
      hint: hints[code] ?? "name another directory, or make it by hand",
    });
  }
}

const hints: Readonly<Record<string, string>> = {
  EACCES: "make it by hand for the user FireRunner runs as, or name another directory",
  ENOSPC: "free some space on its disk, or name a directory on another",
  ENOENT: "name a directory on a disk",
};

async function make(path: string, mode: number): Promise<void> {
  try {
    await makeOne(path, mode);
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
    await make(dirname(path), mode);
    // Once more and no oftener: all above it is there now.
    await makeOne(path, mode);
  }
}

async function makeOne(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    if (systemCode(error) !== "EEXIST" || !(await stat(path)).isDirectory()) throw error;
  }
}
