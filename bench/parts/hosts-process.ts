/** Flintlock hosts in a process of their own: what they cost is not the manager's. */
import { publishedImage } from "../../test/flintlockd/harness.ts";
import { type Flintlockd, startFlintlockd } from "../../test/flintlockd/stand-in.ts";
import { serveParent } from "./child.ts";

/** Of a real host's time: machines are made quickly, so that the bench soon has them. */
const SCALE = 0.01;
/** A resync would keep this process busy, and the manager does not see it. */
const RESYNC_MS = 100 * 3_600_000;

const hosts: Flintlockd[] = [];

const handlers = {
  async start(count: number): Promise<string[]> {
    const localImages = Object.values(publishedImage.published);
    const times = { resyncPeriodMs: RESYNC_MS, answerMs: 20 };
    for (let host = 0; host < count; host++)
      hosts.push(await startFlintlockd({ localImages, scale: SCALE, times }));
    return hosts.map(({ address }) => address);
  },
  running: (_: undefined) => hosts.flatMap((host) => host.machines()).filter(({ alive }) => alive).length,
};
export type HostsHandlers = typeof handlers;

// connect tells here of answers that nobody waits for any more: the manager ends in the middle of some, which is no news.
const tell = console.error;
console.error = (...words: unknown[]) => {
  if (!words.some((word) => word instanceof Error && word.message.includes("ECANCELED"))) tell(...words);
};

serveParent(handlers, () => Promise.all(hosts.map((host) => host[Symbol.asyncDispose]())));
