/** Does to an installation what a schedule says, and takes it back. */
import { open, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isProcessing } from "@firerunner/gitlab-stand-in/model";
import { MIB_BYTES } from "../../src/base/units.ts";
import type { LinkFault } from "../harness/fault-proxy.ts";
import type { Fault, FaultKind } from "./faults.ts";
import type { Manager } from "./manager.ts";
import { gitlabName, type LinkName, type Site } from "./site.ts";

const SLOW_MS = 4_000;
const MANY = 1_000_000;

export interface Target {
  readonly site: Site;
  readonly manager: Manager;
  /** A small volume that the state directory lies on; undefined where none can be had. */
  readonly volume: string | undefined;
  /** What names resolve by for the manager alone; undefined where that cannot be had. */
  readonly hostsFile: string | undefined;
}

type Heal = () => Promise<unknown> | unknown;

/** Undefined: there was nothing that it could be done to. */
type Inflict = (target: Target, fault: Fault) => Promise<Heal | undefined> | Heal | undefined;

const nothing = () => {};

export const namesFor = (resolves: boolean) =>
  `127.0.0.1 localhost\n${resolves ? `127.0.0.1 ${gitlabName}\n` : ""}`;

const onLink =
  (linkFault: (fault: Fault) => LinkFault): Inflict =>
  async ({ site }, fault) => {
    const link = site.links.get(fault.target as LinkName);
    await link?.setFault(linkFault(fault));
    return link && (() => link.setFault(undefined));
  };

/** On every route of GitLab's. */
const onGitLab =
  (add: (site: Site) => void): Inflict =>
  ({ site }) => {
    add(site);
    return () => site.gitlab.faults.clear();
  };

const hostOf = ({ site }: Target, { target }: Fault) => site.hosts.get(target ?? "");

const inflictions: Readonly<Record<FaultKind, Inflict>> = {
  async "manager killed"({ manager }) {
    if (!manager.daemon()) return undefined;
    await manager.kill9();
    return () => manager.start();
  },
  "manager told to end"({ manager }) {
    if (!manager.daemon()) return undefined;
    // It takes its time, and everything else goes on meanwhile.
    const stopped = manager.stop();
    return async () => {
      await stopped;
      await manager.start();
    };
  },
  "manager frozen"({ manager }) {
    if (!manager.daemon()) return undefined;
    manager.freeze(true);
    return () => manager.freeze(false);
  },
  "machine killed"({ site }, { choice }) {
    const alive = [...site.hosts.values()].flatMap((host) =>
      host.machines().flatMap(({ uid, alive }) => (alive ? [{ host, uid }] : [])),
    );
    const victim = alive[choice % alive.length];
    victim?.host.exitGuest(victim.uid);
    return victim && nothing;
  },
  "job canceled"({ site }, { choice }) {
    const { jobs } = site.gitlab;
    const candidates = jobs.all().filter((job) => isProcessing(job) || job.status === "pending");
    const job = candidates[choice % candidates.length];
    if (job) jobs.cancel(job);
    return job && nothing;
  },
  async "GitLab down"({ site }) {
    await site.gitlab.down();
    return () => site.gitlab.up();
  },
  "GitLab answers 5xx": onGitLab(({ gitlab }) =>
    gitlab.faults.add("any", { kind: "status", status: 502, html: true }, { times: MANY }),
  ),
  "GitLab slow": onGitLab(({ gitlab }) =>
    gitlab.faults.add("any", { kind: "delay", ms: SLOW_MS }, { times: MANY }),
  ),
  "GitLab loses answers": onGitLab(({ gitlab }) =>
    gitlab.faults.add("any", { kind: "lose-answer" }, { times: MANY }),
  ),
  async "host without power"(target, fault) {
    const host = hostOf(target, fault);
    await host?.powerOff();
    return () => host?.start();
  },
  async "host without network"(target, fault) {
    const host = hostOf(target, fault);
    await host?.vanish();
    return () => host?.comeBack();
  },
  async "flintlockd restarted"(target, fault) {
    const host = hostOf(target, fault);
    await host?.kill();
    return () => host?.start();
  },
  "containerd stopped"(target, fault) {
    const host = hostOf(target, fault);
    host?.stopContainerd();
    return async () => {
      host?.startContainerd();
      // Its cure: docs/flintlock.md.
      await host?.restart();
    };
  },
  async "disk full"({ volume }) {
    if (volume === undefined) return undefined;
    const file = join(volume, "filled-by-somebody-else");
    await fill(file);
    return () => rm(file, { force: true });
  },
  "clock stepped"({ manager }, { choice }) {
    manager.stepClock(choice * 1_000);
    return () => manager.stepClock(0);
  },
  async "names fail"({ site, hostsFile }) {
    if (hostsFile === undefined) return undefined;
    await writeFile(hostsFile, namesFor(false));
    // Connections that are open need no name.
    site.links.get("gitlab")?.reset();
    return () => writeFile(hostsFile, namesFor(true));
  },
  partition: onLink(() => ({ kind: "partition" })),
  "one way": onLink(({ choice }) => ({ kind: "one-way", way: choice === 0 ? "there" : "back" })),
  delay: onLink(() => ({ kind: "delay", ms: 400 })),
  loss: onLink(() => ({ kind: "loss", chance: 0.2, repeatMs: 1_000 })),
  reset: onLink(() => ({ kind: "reset" })),
  refused: onLink(() => ({ kind: "refuse" })),
  "half open"({ site }, { target }) {
    site.links.get(target as LinkName)?.halfOpen();
    return nothing;
  },
};

export async function inflict(target: Target, fault: Fault): Promise<Heal | undefined> {
  return await inflictions[fault.kind](target, fault);
}

async function fill(path: string): Promise<void> {
  const file = await open(path, "w");
  const piece = Buffer.alloc(MIB_BYTES, 7);
  try {
    for (let size = piece.length; size >= 4_096; ) {
      const written = await file.write(piece, 0, size).then(
        ({ bytesWritten }) => bytesWritten === size,
        () => false,
      );
      if (!written) size /= 2;
    }
  } finally {
    await file.close();
  }
}
