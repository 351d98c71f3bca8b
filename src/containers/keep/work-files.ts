/** What is not whole yet, in the directory `work` of the cache: each file has the mark of the process that works on it in its name. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { processMark } from "../../base/durable-file.ts";
import { DAY_MS } from "../../base/units.ts";

export class WorkFiles {
  readonly #directory: string;
  readonly #mark: string;
  readonly #clock: Clock;
  /** Paths of parts that grow just now. */
  readonly #growing = new Set<string>();
  #count = 0;

  /** `mark`: this process's own. */
  constructor(directory: string, mark: string, clock: Clock) {
    this.#directory = directory;
    this.#mark = mark;
    this.#clock = clock;
  }

  /** A new name. */
  path(ending: string): string {
    this.#count += 1;
    return join(this.#directory, `${this.#mark}-${this.#count}-${ending}`);
  }

  /**
   * Where a blob from this registry grows. `adopt` is called with the name that a process that is gone has left it under, if one has. What
   * one registry has sent of it is nothing that another one's goes on from.
   */
  partPath(registry: string, digest: string): { readonly path: string; readonly adopt: Adopt } {
    const ending = `${createHash("sha256").update(`${registry} ${digest}`).digest("hex")}.part`;
    const path = join(this.#directory, `${this.#mark}-${ending}`);
    return {
      path,
      adopt: (isAlive) => {
        this.#growing.add(path);
        const left = this.names().find((name) => name.endsWith(`-${ending}`) && !isAlive(name));
        if (left !== undefined && !existsSync(path)) renameSync(join(this.#directory, left), path);
      },
    };
  }

  /** Nobody works on it any more: it is there to be gone on with, or is gone. */
  leavePart(path: string): void {
    this.#growing.delete(path);
  }

  /** What this process has begun and given up, the oldest first. */
  idleParts(): { readonly name: string; readonly bytes: number; readonly at: number }[] {
    return this.names()
      .filter((name) => name.startsWith(`${this.#mark}-`) && name.endsWith(".part"))
      .filter((name) => !this.#growing.has(join(this.#directory, name)))
      .flatMap((name) => {
        const found = statSync(join(this.#directory, name), { throwIfNoEntry: false });
        return found ? [{ name, bytes: found.size, at: found.mtimeMs }] : [];
      })
      .toSorted((a, b) => a.at - b.at);
  }

  /** Removes the oldest of them that nobody went on with since; answers how much it had. */
  dropIdlePart(before: number): number | undefined {
    const first = this.idleParts().find(({ at }) => at <= before);
    if (first !== undefined) rmSync(join(this.#directory, first.name), { force: true });
    return first?.bytes;
  }

  names(): string[] {
    return readdirSync(this.#directory);
  }

  /** Whether the process of a file lives. `others`: marks or beginnings of marks (`<pid>-…`) to be looked at besides. */
  async living(others: readonly string[] = []): Promise<(name: string) => boolean> {
    const pids = new Set([...this.names(), ...others].map((name) => name.split("-")[0] ?? ""));
    const marks = await Promise.all([...pids].map((pid) => processMark(Number(pid))));
    const alive = new Set([...marks, this.#mark]);
    return (name) => alive.has(name.split("-").slice(0, 2).join("-"));
  }

  /** Parts of blobs are kept for a day, so that a great one need not begin anew. */
  remove(name: string): void {
    const path = join(this.#directory, name);
    const { mtimeMs } = statSync(path);
    const isFresh = name.endsWith(".part") && mtimeMs > this.#clock.now() - DAY_MS;
    if (!isFresh) rmSync(path, { force: true });
  }
}

type Adopt = (isAlive: (name: string) => boolean) => void;
