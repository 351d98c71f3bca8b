/**
 * Hosts that did not make a machine when they were asked to. That is held against the host and not against the job: it gets nothing of
 * the kind for a while, longer each time, then one machine to show that it can, and is as good as any other once that one was made.
 * What the refusal is about decides what is kept away: everything, machines of one image, or those of one image and size.
 */

import type { Clock } from "../base/clock.ts";
import { explainError, hintOf } from "../base/errors.ts";
import { type BackoffLimits, backoffMs } from "../base/rates.ts";
import { formatDuration, MINUTE_MS, SECOND_MS } from "../base/units.ts";
import type { HostRefusal } from "../domain/placement.ts";
import type { Size } from "../domain/size.ts";
import { type HostProblem, refusalIsAbout } from "../vm/driver.ts";

const passing: BackoffLimits = { baseMs: 5 * SECOND_MS, capMs: 2 * MINUTE_MS };
/** What asks for the impossible is no better in a minute; somebody may put it right at the host. */
const lasting: BackoffLimits = { baseMs: 2 * MINUTE_MS, capMs: 10 * MINUTE_MS };
/** One that could be tried again for so long, and was not, says nothing any more. */
const FORGOTTEN_AFTER_MS = 10 * MINUTE_MS;

/** What was asked for. `image` is a digest. */
interface Asked {
  readonly image: string;
  readonly size: Size;
}

export interface Refusals {
  /** A machine was not made there. */
  note(host: string, asked: Asked, error: unknown): void;
  /** A machine was made there: nothing that was held against the host for its like is so any more. */
  noteMade(host: string, asked: Asked): void;
  /** The host has recovered from a problem that was known: what it did not make meanwhile says nothing any more. */
  forgive(host: string): void;
  /** As placement has to know it. `namesOf` gives the names of pools for an image's digest. */
  on(host: string, namesOf: (digest: string) => ReadonlySet<string>): readonly HostRefusal[];
  /** What is wrong with a host, its images included; where it was so more than once, also while it may be tried again. */
  problem(host: string): HostProblem | undefined;
  /** What keeps all machines of an image away from a host just now. */
  closing(host: string, digest: string | undefined): HostProblem | undefined;
}

interface Kept extends HostProblem {
  readonly host: string;
  readonly about: "host" | "image" | "request";
  readonly asked: Asked;
  readonly failures: number;
  readonly until: number;
}

export function createRefusals(deps: { readonly clock: Clock; readonly random: () => number }): Refusals {
  const { clock, random } = deps;
  const kept = new Map<string, Kept>();

  function of(host: string): Kept[] {
    const now = clock.now();
    for (const [key, { until }] of kept) if (now - until > FORGOTTEN_AFTER_MS) kept.delete(key);
    return [...kept.values()].filter((each) => each.host === host);
  }

  const isDue = ({ until }: Kept) => clock.now() >= until;

  function words(each: Kept): string {
    const next = isDue(each)
      ? "the next machine tries it again"
      : `tried again in ${formatDuration(each.until - clock.now())}`;
    return `${each.problem} (${next})`;
  }

  return {
    note(host, asked, error) {
      const about = refusalIsAbout(error);
      const key = keyOf(host, about, asked);
      const failures = (kept.get(key)?.failures ?? 0) + 1;
      const until = clock.now() + backoffMs(failures, random, about === "request" ? lasting : passing);
      const problem = `it did not make the last machine${subject[about]}: ${explainError(error)}`;
      const hint = hintOf(error);
      kept.set(key, { host, about, asked, failures, until, problem, hint });
    },
    noteMade(host, asked) {
      for (const about of ["host", "image", "request"] as const) kept.delete(keyOf(host, about, asked));
    },
    forgive(host) {
      for (const [key, each] of kept) if (each.host === host && each.about === "host") kept.delete(key);
    },
    on: (host, namesOf) =>
      of(host).map((each) => ({
        images: each.about === "host" ? undefined : namesOf(each.asked.image),
        size: each.about === "request" ? each.asked.size : undefined,
        problem: words(each),
        isOnTrial: isDue(each),
      })),
    problem(host) {
      const shown = of(host).filter((each) => !isDue(each) || each.failures > 1);
      const [first] = shown.toSorted((a, b) => rank[a.about] - rank[b.about]);
      return first && { problem: words(first), hint: first.hint };
    },
    closing(host, digest) {
      const found = of(host).find(
        (each) =>
          !isDue(each) && (each.about === "host" || (each.about === "image" && each.asked.image === digest)),
      );
      return found && { problem: words(found), hint: found.hint };
    },
  };
}

const subject = { host: "", image: " of this image", request: " of this size" };
const rank = { host: 0, image: 1, request: 2 };

function keyOf(host: string, about: Kept["about"], { image, size }: Asked): string {
  if (about === "host") return host;
  if (about === "image") return `${host} ${image}`;
  return `${host} ${image} ${size.cpus} ${size.memoryMib} ${size.diskMib}`;
}
