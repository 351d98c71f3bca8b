/**
 * The files of job images on this computer:
 *
 *     <directory>/blobs/<64 digits>        layers and documents as registries gave them, by their digest
 *     <directory>/disks/<64 digits>.sqfs   the disks that machines get
 *     <directory>/work/<process>-…         what is not whole yet; of processes that are gone it is removed, or gone on with
 *     <directory>/records.sqlite           what of all that is there, and who uses it (records.ts)
 *
 * A file gets its name only when it is whole and on its disk. What is used by nobody goes when room is needed: disks first, since they can
 * be made from blobs, and of both what was not used for longest.
 */
import { existsSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { freeBytesOf } from "../../base/disk-ledger.ts";
import { hashFile, processMark, syncPath } from "../../base/durable-file.ts";
import { makeDirectory } from "../../base/trusted-file.ts";
import { DAY_MS, MINUTE_MS } from "../../base/units.ts";
import { type ContainerError, noSpace } from "../errors.ts";
import { type KeptDisk, type Kind, Records, unpinned } from "./records.ts";
import { WorkFiles } from "./work-files.ts";

/** How long a disk that was just given out stays for whoever is about to pin it. */
const GIVEN_OUT_MS = 10 * MINUTE_MS;

export interface KeeperOptions {
  readonly directory: string;
  readonly sizeBytes: number;
  readonly minFreeBytes: number;
  readonly clock: Clock;
}

export interface Reading {
  readonly digest: string;
  readonly readAt: number;
}

/** What one piece of work uses stays until `end`. */
export interface Lease {
  /** True when it is there; it is pinned in any case. */
  takeDisk(key: string): boolean;
  /** As `takeDisk`; true only when this registry once gave it: what it says of what others gave proves nothing. */
  takeBlob(digest: string, registry: string): boolean;
  /** Blobs are free again; disks stay for a while, until somebody pins them. */
  end(): void;
}

export class Keeper {
  readonly #records: Records;
  readonly #options: KeeperOptions;
  readonly #mark: string;
  readonly #work: WorkFiles;
  #count = 0;

  private constructor(records: Records, options: KeeperOptions, mark: string) {
    this.#records = records;
    this.#options = options;
    this.#mark = mark;
    this.#work = new WorkFiles(join(options.directory, "work"), mark, options.clock);
  }

  /** Makes the directory where it is not there, and cleans up behind processes that died. Throws `container_cache_broken`. */
  static async open(options: KeeperOptions): Promise<Keeper> {
    for (const name of ["blobs", "disks", "work"]) await makeDirectory(join(options.directory, name), 0o700);
    const records = Records.open(options.directory);
    const mark = (await processMark(process.pid)) ?? `${process.pid}-0`;
    const keeper = new Keeper(records, options, mark);
    await keeper.#cleanUp();
    return keeper;
  }

  pathOf(kind: Kind, id: string): string {
    const name = id.replace(/^sha256:/, "");
    if (!/^[0-9a-f]{64}$/.test(name)) throw new RangeError(`${id} is no name of a file here`);
    return join(this.#options.directory, kind === "blob" ? `blobs/${name}` : `disks/${name}.sqfs`);
  }

  /** A new name for what is not whole yet. */
  workPath(ending: string): string {
    return this.#work.path(ending);
  }

  /** Where a blob of this registry grows, with what this process, or one that is gone, has of it. To be used by one at a time. */
  async partPath(registry: string, digest: string): Promise<string> {
    const { path, adopt } = this.#work.partPath(registry, digest);
    const alive = await this.#work.living();
    this.#records.transact(() => adopt(alive));
    return path;
  }

  /** Nobody works on what `partPath` gave any more. */
  leavePart(path: string): void {
    this.#work.leavePart(path);
  }

  lease(): Lease {
    this.#count += 1;
    const owner = `process:${this.#mark}:${this.#count}`;
    return {
      takeDisk: (key) => this.#take(owner, "disk", key),
      takeBlob: (digest, registry) =>
        this.#take(owner, "blob", digest) && this.#records.isSource(digest, registry),
      end: () =>
        this.#records.transact(() => {
          const until = this.#options.clock.now() + GIVEN_OUT_MS;
          this.#records.run("delete from pins where owner = ? and kind = 'blob'", owner);
          this.#records.run("update pins set until_at = ? where owner = ?", until, owner);
        }),
    };
  }

  /** Whether it is there, and this registry gave it. */
  hasBlob(digest: string, registry: string): boolean {
    const isThere = existsSync(this.pathOf("blob", digest)) && this.#isKnown("blob", digest);
    return isThere && this.#records.isSource(digest, registry);
  }

  #take(owner: string, kind: Kind, id: string): boolean {
    return this.#records.transact(() => {
      this.#records.run("insert or ignore into pins (owner, kind, id) values (?, ?, ?)", owner, kind, id);
      return this.#touch(kind, id);
    });
  }

  /** True when it is there; then it counts as used now. */
  #touch(kind: Kind, id: string): boolean {
    if (!existsSync(this.pathOf(kind, id))) return false;
    const now = this.#options.clock.now();
    if (kind === "blob") this.#records.run("update blobs set used_at = ? where digest = ?", now, id);
    else this.#records.run("update disks set used_at = ? where key = ?", now, id);
    return this.#isKnown(kind, id);
  }

  #isKnown(kind: Kind, id: string): boolean {
    const sql =
      kind === "blob" ? "select 1 from blobs where digest = ?" : "select 1 from disks where key = ?";
    return this.#records.one(sql, id) !== undefined;
  }

  /** A whole file, as this registry gave it, gets its name. It has been synced; its name is on the disk, too, when this is done. */
  async addBlob(digest: string, registry: string, from: string): Promise<void> {
    const { size } = statSync(from);
    this.#records.transact(() => {
      renameSync(from, this.pathOf("blob", digest));
      const now = this.#options.clock.now();
      this.#records.addSource(digest, registry);
      this.#records.run(
        "insert or replace into blobs (digest, bytes, used_at) values (?, ?, ?)",
        digest,
        size,
        now,
      );
    });
    await syncPath(join(this.#options.directory, "blobs"));
  }

  async addDisk(disk: Pick<KeptDisk, "key" | "name" | "manifest">, from: string): Promise<void> {
    const { bytes, sha256 } = await hashFile(from);
    this.#records.transact(() => {
      renameSync(from, this.pathOf("disk", disk.key));
      const now = this.#options.clock.now();
      this.#records.run(
        "insert or replace into disks (key, name, manifest, bytes, sha256, made_at, used_at) values (?, ?, ?, ?, ?, ?, ?)",
        ...[disk.key, disk.name, disk.manifest, bytes, sha256, now, now],
      );
    });
    await syncPath(join(this.#options.directory, "disks"));
  }

  disks(): KeptDisk[] {
    return this.#records.all<KeptDisk>(
      `select key, name, manifest, bytes, sha256, made_at as madeAt, used_at as usedAt,
         (select count(*) from pins where kind = 'disk' and id = key and owner like 'machine:%') as pinnedBy
       from disks order by used_at desc, key`,
    );
  }

  blobs(): { digest: string; bytes: number }[] {
    return this.#records.all("select digest, bytes from blobs order by digest");
  }

  /** Of a disk that is there. */
  diskBytes(key: string): number {
    return this.#records.one<{ bytes: number }>("select bytes from disks where key = ?", key)?.bytes ?? 0;
  }

  usedBytes(): number {
    const row = this.#records.one<{ bytes: number }>(
      "select (select coalesce(sum(bytes), 0) from blobs) + (select coalesce(sum(bytes), 0) from disks) as bytes",
    );
    return (row?.bytes ?? 0) + this.#idleBytes();
  }

  /** What nobody uses now. */
  evictableBytes(): number {
    const now = this.#options.clock.now();
    const of = (table: string, kind: Kind, id: string) =>
      `select coalesce(sum(bytes), 0) from ${table} where ${unpinned(kind, id)}`;
    const row = this.#records.one<{ bytes: number }>(
      `select (${of("blobs", "blob", "digest")}) + (${of("disks", "disk", "key")}) as bytes`,
      ...[now, now],
    );
    return (row?.bytes ?? 0) + this.#idleBytes();
  }

  /** Removes what was not used for longest until so much is gone, or nothing is left that nobody uses; answers how much went. */
  evict(bytes: number): number {
    let gone = 0;
    for (let one = this.#removeOne(); one !== undefined; one = gone < bytes ? this.#removeOne() : undefined)
      gone += one;
    return gone;
  }

  /** Why nothing can be fetched now, in words; undefined while there is room. */
  async roomProblem(): Promise<ContainerError | undefined> {
    const { minFreeBytes, directory } = this.#options;
    const free = await freeBytesOf(directory);
    return free + this.evictableBytes() >= minFreeBytes
      ? undefined
      : noSpace(0, { free, minFreeBytes, directory });
  }

  /** Disks that a machine has open stay until `unpin`, in any process. A later call for the machine replaces the earlier one. */
  pin(machineId: string, keys: readonly string[]): void {
    const owner = `machine:${machineId}`;
    this.#records.transact(() => {
      this.#records.run("delete from pins where owner = ?", owner);
      for (const key of keys)
        this.#records.run("insert into pins (owner, kind, id) values (?, 'disk', ?)", owner, key);
    });
  }

  unpin(machineId: string): void {
    this.#records.run("delete from pins where owner = ?", `machine:${machineId}`);
  }

  /** Whoever has disks. */
  pinnedMachines(): string[] {
    const owners = this.#records.all<{ owner: string }>(
      "select distinct owner from pins where owner like 'machine:%'",
    );
    return owners.map(({ owner }) => owner.slice("machine:".length));
  }

  /** What this name stood for when one of these readers last asked; the latest. */
  reading(name: string, readers: readonly string[]): Reading | undefined {
    const marks = readers.map(() => "?").join(", ");
    return this.#records.one<Reading>(
      `select digest, read_at as readAt from readings where name = ? and reader in (${marks})
       order by read_at desc limit 1`,
      name,
      ...readers,
    );
  }

  setReading(name: string, reader: string, digest: string): void {
    const sql = "insert or replace into readings (name, reader, digest, read_at) values (?, ?, ?, ?)";
    this.#records.run(sql, name, reader, digest, this.#options.clock.now());
  }

  readerKey(): Uint8Array {
    return this.#records.readerKey();
  }

  /** Removes what nobody uses until so many bytes more have room. Throws `container_no_space`. */
  async makeRoom(bytes: number): Promise<void> {
    const { sizeBytes, minFreeBytes, directory } = this.#options;
    for (;;) {
      const free = await freeBytesOf(directory);
      const used = this.usedBytes();
      const isTooMuch = used + bytes > sizeBytes;
      if (!isTooMuch && free - bytes >= minFreeBytes) return;
      if (this.#removeOne() === undefined)
        throw noSpace(bytes, isTooMuch ? { sizeBytes, used } : { free, minFreeBytes, directory });
    }
  }

  /** Removes everything that nobody uses and that was not used since; answers how much that was. */
  prune(unusedForMs: number): { files: number; bytes: number } {
    const before = this.#options.clock.now() - unusedForMs;
    let [files, bytes] = [0, 0];
    for (let gone = this.#removeOne(before); gone !== undefined; gone = this.#removeOne(before)) {
      files += 1;
      bytes += gone;
    }
    for (const name of this.#work.names()) if (name.endsWith(".part")) this.#work.remove(name);
    return { files, bytes };
  }

  /** What was found to be damaged. A machine that has it open goes on with it. */
  remove(kind: Kind, id: string): void {
    this.#records.transact(() => this.#drop(kind, id));
  }

  /** Reads every byte again, and removes what is not what it was. */
  async verify(signal: AbortSignal): Promise<{ checkedBytes: number; damaged: string[] }> {
    const files = [
      ...this.blobs().map(
        ({ digest, bytes }) => ({ kind: "blob", id: digest, bytes, sha256: digest.slice(7) }) as const,
      ),
      ...this.disks().map(({ key, bytes, sha256 }) => ({ kind: "disk", id: key, bytes, sha256 }) as const),
    ];
    const damaged: string[] = [];
    let checkedBytes = 0;
    for (const { kind, id, bytes, sha256 } of files) {
      const path = this.pathOf(kind, id);
      const found = await hashFile(path, signal).catch(() => undefined);
      signal.throwIfAborted();
      checkedBytes += found?.bytes ?? 0;
      if (found?.bytes === bytes && found.sha256 === sha256) continue;
      // Whoever removed it meanwhile has taken its row along.
      if (found === undefined && !this.#isKnown(kind, id)) continue;
      damaged.push(path);
      this.remove(kind, id);
    }
    return { checkedBytes, damaged };
  }

  /** What was begun and given up is kept only while there is room. */
  #idleBytes(): number {
    return this.#work.idleParts().reduce((sum, { bytes }) => sum + bytes, 0);
  }

  #removeOne(before = Number.MAX_SAFE_INTEGER): number | undefined {
    const part = this.#work.dropIdlePart(before);
    if (part !== undefined) return part;
    return this.#records.transact(() => {
      const now = this.#options.clock.now();
      const next = (table: string, kind: Kind, id: string) =>
        this.#records.one<{ id: string; bytes: number }>(
          `select ${id} as id, bytes from ${table} where used_at <= ? and ${unpinned(kind, id)}
           order by used_at, ${id} limit 1`,
          before,
          now,
        );
      const disk = next("disks", "disk", "key");
      const found = disk ?? next("blobs", "blob", "digest");
      if (found) this.#drop(disk ? "disk" : "blob", found.id);
      return found?.bytes;
    });
  }

  /** Within a transaction: a file without a row is removed by the next who opens, and a row without a file counts for nothing. */
  #drop(kind: Kind, id: string): void {
    rmSync(this.pathOf(kind, id), { force: true });
    if (kind === "blob") this.#records.forgetBlob(id);
    else this.#records.run("delete from disks where key = ?", id);
  }

  async #cleanUp(): Promise<void> {
    const owners = this.#records.all<{ owner: string }>(
      "select owner from pins where owner like 'process:%'",
    );
    const alive = await this.#work.living(owners.map(({ owner }) => owner.split(":")[1] ?? ""));
    this.#records.transact(() => {
      this.#forgetDeadPins(alive);
      const old = this.#options.clock.now() - READINGS_KEPT_MS;
      this.#records.run("delete from readings where read_at < ?", old);
      for (const name of this.#work.names()) if (!alive(name)) this.#work.remove(name);
      this.#reconcile("blob", "blobs", /^[0-9a-f]{64}$/, (name) => `sha256:${name}`);
      this.#reconcile("disk", "disks", /^[0-9a-f]{64}\.sqfs$/, (name) => name.slice(0, 64));
    });
  }

  #forgetDeadPins(alive: (name: string) => boolean): void {
    const rows = this.#records.all<{ owner: string; until: number | null }>(
      "select distinct owner, until_at as until from pins where owner like 'process:%'",
    );
    const now = this.#options.clock.now();
    // A disk that was given out is pinned for a while, whether its giver lives or not.
    const isOver = ({ owner, until }: { owner: string; until: number | null }) =>
      until === null ? !alive(owner.split(":")[1] ?? "") : until <= now;
    for (const row of rows)
      if (isOver(row))
        this.#records.run("delete from pins where owner = ? and until_at is ?", row.owner, row.until);
  }

  /** Death between a file and its row. */
  #reconcile(kind: Kind, folder: string, form: RegExp, idOf: (name: string) => string): void {
    const [table, column] = kind === "blob" ? ["blobs", "digest"] : ["disks", "key"];
    const known = new Set(
      this.#records.all<{ id: string }>(`select ${column} as id from ${table}`).map(({ id }) => id),
    );
    const path = join(this.#options.directory, folder);
    const there = readdirSync(path);
    for (const name of there)
      if (!form.test(name) || !known.has(idOf(name))) rmSync(join(path, name), { force: true });
    const present = new Set(there.filter((name) => form.test(name)).map(idOf));
    for (const id of known) if (!present.has(id)) this.#drop(kind, id);
  }

  close(): void {
    this.#records.close();
  }
}

const READINGS_KEPT_MS = 90 * DAY_MS;
