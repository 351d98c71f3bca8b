/** Fetches and composes images again and again until it is killed: `fetch-job-images.ts DIRECTORY SIZE_BYTES NAME…`. Says `ready` when it begins. */
import { systemClock } from "../../src/base/clock.ts";
import { directRoutes } from "../../src/base/proxy/routes.ts";
import { HOUR_MS } from "../../src/base/units.ts";
import { openJobImages } from "../../src/containers/job-images.ts";

const [directory = "", sizeBytes = "", ...names] = process.argv.slice(2);
/** An hour later after each round: what was given out is nobody's any more. */
let rounds = 0;
const clock = { ...systemClock, now: () => systemClock.now() + rounds * HOUR_MS };
const images = await openJobImages({
  directory,
  sizeBytes: Number(sizeBytes),
  minFreeBytes: 0,
  registries: new Map(),
  proxies: directRoutes,
  clock,
});
process.stdout.write("ready\n");
for (;;) {
  const wants = names.map((name) => ({ name, policy: "always", isTrusted: true }) as const);
  await images.prepare(wants, { signal: AbortSignal.timeout(60_000) });
  rounds += 1;
  images.keeper.prune(0);
}
