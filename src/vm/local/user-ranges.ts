/**
 * Which user ids belong to which installation of this computer. Whatever runs as the user of a machine is ended with it, so no two
 * installations may share one. Each claims a range in a directory that is empty after a boot, as is the list of what runs.
 */
import { randomUUID } from "node:crypto";
import { link, mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { systemCode } from "../../base/errors.ts";
import { VmError } from "../errors.ts";
import { hostProcesses } from "./processes.ts";

export interface UserRange {
  readonly first: number;
  readonly count: number;
}

export interface RangeWish {
  /** Where ranges are claimed. */
  readonly registry: string;
  /** The directory of machines of this installation, by its real path: its name here. */
  readonly owner: string;
  /** Undefined: the first range from `lowest` on that nobody has. */
  readonly first: number | undefined;
  readonly lowest: number;
  readonly count: number;
}

interface Claim extends UserRange {
  readonly name: string;
  readonly owner: string;
}

/** Above it some file systems take a user id for a negative number. */
const HIGHEST = 2 ** 31 - 1;

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
    if (wish.first !== undefined) throw isTaken(range, holder);
  }
  throw new VmError("vm_unusable", "no user ids are left for machines on this computer", {
    hint: `see the claims in ${wish.registry}, or lower vm.qemu.userIds`,
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

function isTaken({ first, count }: UserRange, holder: Claim | undefined): VmError {
  const who = holder ? `the FireRunner with machines in ${holder.owner}` : "another FireRunner";
  return new VmError(
    "vm_unusable",
    `the user ids ${first} to ${first + count - 1} for machines belong to ${who}`,
    { hint: "leave vm.qemu.firstUserId out, or choose ids that no other installation on this computer has" },
  );
}
