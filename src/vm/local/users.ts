/**
 * As whom machines run. Started by root, each machine gets an unprivileged user of its own, so that a guest that breaks out
 * of its hypervisor finds neither root nor another machine. Otherwise machines run as the user who started this program. Whatever runs
 * as the user of a machine is ended with it, so no two installations of a computer may share one: each claims a range of user ids, in a
 * directory that is empty after a boot, as is the list of what runs.
 */

import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { access, link, mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { systemCode } from "../../base/errors.ts";
import type { BootImage } from "../../domain/images.ts";
import { VmError } from "../errors.ts";
import { hostProcesses } from "./processes.ts";

/** Above it some file systems take a user id for a negative number. */
const HIGHEST = 2 ** 31 - 1;

export interface MachineUsers {
  /** True when each machine has a user of its own, whom this program must switch to. */
  readonly separate: boolean;
  /** Whose they are, once that is known: the first call claims them for this installation. Rejects with `vm_unusable` when it cannot. */
  known(): Promise<KnownUsers>;
}

interface KnownUsers {
  /** Could a process of this user belong to a machine? */
  isOurs(uid: number): boolean;
  /** A user for one more machine, given those in use. Undefined when machines run as ourselves. */
  choose(taken: ReadonlySet<number>): number | undefined;
  /** For trial boots; undefined when machines run as ourselves. */
  readonly forTrials: number | undefined;
}

/** `settings`: where the range is configured, such as `vm.qemu`. `claim`: the ranges of this installation, the one for new machines first. Asked for once, and again when it failed. */
export function createMachineUsers(
  claim: () => Promise<readonly [UserRange, ...UserRange[]]>,
  ownUid: number,
  settings: string,
): MachineUsers {
  if (ownUid !== 0) {
    const ourselves: KnownUsers = {
      isOurs: (uid) => uid === ownUid,
      choose: () => undefined,
      forTrials: undefined,
    };
    return { separate: false, known: async () => ourselves };
  }
  let known: Promise<KnownUsers> | undefined;
  return {
    separate: true,
    async known() {
      known ??= claim().then((ranges) => usersOf(ranges, settings));
      try {
        return await known;
      } catch (error) {
        known = undefined;
        throw error;
      }
    },
  };
}

function usersOf(ranges: readonly [UserRange, ...UserRange[]], settings: string): KnownUsers {
  const [{ first, count }] = ranges;
  return {
    isOurs: (uid) => ranges.some((range) => uid >= range.first && uid < range.first + range.count),
    choose(taken) {
      for (let uid = first; uid < first + count; uid++) if (!taken.has(uid)) return uid;
      throw new VmError("vm_create_failed", `all ${count} user ids for machines are in use`, {
        hint: `raise ${settings}.userIds, or find out why so many machines are left`,
        retryable: true,
      });
    },
    forTrials: first + count - 1,
  };
}

interface UserRange {
  readonly first: number;
  readonly count: number;
}

export interface RangeWish {
  /** Where ranges are claimed. */
  readonly registry: string;
  /** The directory of machines of this installation, by its real path: its name here. */
  readonly owner: string;
  /** Where the settings of the range are, such as `vm.qemu`. */
  readonly settings: string;
  /** Undefined: the first range from `lowest` on that nobody has. */
  readonly first: number | undefined;
  readonly lowest: number;
  readonly count: number;
}

interface Claim extends UserRange {
  readonly name: string;
  readonly owner: string;
}

/**
 * The ranges of this installation, the one for new machines first: others are of a configuration before, whose machines may still
 * run. Rejects with `vm_unusable` when the range that was asked for is another installation's.
 */
export async function claimUserRange(wish: RangeWish): Promise<readonly [UserRange, ...UserRange[]]> {
  await mkdir(wish.registry, { recursive: true, mode: 0o755 });
  const claims = await readClaims(wish.registry);
  const own = claims.filter(({ owner }) => owner === wish.owner);
  const fitting = own.find(
    ({ first, count }) => count === wish.count && (wish.first === undefined || first === wish.first),
  );
  if (fitting) return [fitting, ...own.filter((each) => each !== fitting)];
  const others = await living(
    wish,
    claims.filter(({ owner }) => owner !== wish.owner),
  );
  const used = wish.first === undefined ? await usedByOthers(wish) : [];
  for (let first = wish.first ?? wish.lowest; first + wish.count - 1 <= HIGHEST; first += wish.count) {
    const range = { first, count: wish.count };
    const holder = others.find((other) => overlap(range, other));
    const isFree = holder === undefined && !used.some((uid) => overlap(range, { first: uid, count: 1 }));
    if (isFree && (await take(wish, range))) return [range, ...own];
    if (wish.first !== undefined) throw isTaken(wish.settings, range, holder);
  }
  throw new VmError("vm_unusable", "no user ids are left for machines on this computer", {
    hint: `see the claims in ${wish.registry}, or lower ${wish.settings}.userIds`,
  });
}

/** Users of machines that say they are of other installations: those of releases before made no claims. */
async function usedByOthers({ lowest, owner }: RangeWish): Promise<number[]> {
  const processes = await hostProcesses((uid) => uid >= lowest);
  return processes.flatMap(({ uid, machine }) =>
    machine === undefined || dirname(machine) === owner ? [] : [uid],
  );
}

function overlap(a: UserRange, b: UserRange): boolean {
  return a.first < b.first + b.count && b.first < a.first + a.count;
}

async function readClaims(registry: string): Promise<Claim[]> {
  const names = (await readdir(registry)).filter((name) => /^\d+-\d+$/.test(name));
  const claims = names.map(async (name): Promise<Claim[]> => {
    const owner = await readFile(join(registry, name), "utf8").catch(() => undefined);
    const [first = 0, count = 0] = name.split("-").map(Number);
    return owner === undefined ? [] : [{ name, first, count, owner: owner.trim() }];
  });
  return (await Promise.all(claims)).flat();
}

/** Without those whose installation is gone from the computer, directory and processes: they are given back. */
async function living({ registry }: RangeWish, claims: readonly Claim[]): Promise<Claim[]> {
  const left: Claim[] = [];
  for (const claim of claims) {
    const isThere = await stat(claim.owner).then(
      () => true,
      (error: unknown) => systemCode(error) !== "ENOENT",
    );
    const isUsed =
      isThere || (await hostProcesses((uid) => overlap(claim, { first: uid, count: 1 }))).length > 0;
    if (isUsed || !(await giveBack(registry, claim))) left.push(claim);
  }
  return left;
}

/** Only one of several that find a claim abandoned moves it away, and puts back what was claimed anew in between. */
async function giveBack(registry: string, { name, owner }: Claim): Promise<boolean> {
  const aside = join(registry, `.${randomUUID()}`);
  try {
    await rename(join(registry, name), aside);
    const found = (await readFile(aside, "utf8")).trim();
    if (found !== owner) await link(aside, join(registry, name));
    return found === owner;
  } catch (error) {
    return systemCode(error) === "ENOENT";
  } finally {
    await rm(aside, { force: true });
  }
}

/** A link appears whole or not at all. False when somebody was faster, also with a range that overlaps. */
async function take({ registry, owner }: RangeWish, range: UserRange): Promise<boolean> {
  const draft = join(registry, `.${randomUUID()}`);
  const path = join(registry, `${range.first}-${range.count}`);
  await writeFile(draft, `${owner}\n`, { mode: 0o644 });
  try {
    await link(draft, path);
  } catch (error) {
    if (systemCode(error) === "EEXIST") return false;
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
  const others = (await readClaims(registry)).filter((claim) => claim.owner !== owner);
  if (!others.some((other) => overlap(range, other))) return true;
  await rm(path, { force: true });
  return false;
}

function isTaken(settings: string, { first, count }: UserRange, holder: Claim | undefined): VmError {
  const who = holder ? `the FireRunner with machines in ${holder.owner}` : "another FireRunner";
  return new VmError(
    "vm_unusable",
    `the user ids ${first} to ${first + count - 1} for machines belong to ${who}`,
    {
      hint: `leave ${settings}.firstUserId out, or choose ids that no other installation on this computer has`,
    },
  );
}

/**
 * Throws `vm_image_broken` when a file of the image is missing, or cannot be read by those who will run it: this program's
 * user, or everybody when machines have users of their own.
 */
export async function checkImageAccess(image: BootImage, separateUsers: boolean): Promise<void> {
  for (const path of [image.kernel, image.initramfs, ...image.layers]) {
    await access(path, constants.R_OK).catch((cause: unknown) => {
      throw new VmError("vm_image_broken", `the image's file ${path} cannot be read`, {
        cause,
        hint: "build the image again: firerunner image build",
      });
    });
    if (separateUsers) await checkOpenToAll(path);
  }
}

async function checkOpenToAll(path: string): Promise<void> {
  await checkMode(path, path, 0o004, "o+r");
  for (let parent = dirname(path); parent !== dirname(parent); parent = dirname(parent))
    await checkMode(path, parent, 0o001, "o+x");
}

async function checkMode(file: string, path: string, bits: number, change: string): Promise<void> {
  if (((await stat(path)).mode & bits) === bits) return;
  const message = `the image's file ${file} is closed to the unprivileged users that machines run as: by ${path}`;
  throw new VmError("vm_image_broken", message, {
    hint: `chmod ${change} ${path}, or keep images in a directory that is open to all`,
  });
}
