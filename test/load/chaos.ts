/** `npm run chaos [-- --minutes 60 --speed 6 --jobs 30 --seed 1 --out DIR]`; `SEED=n` repeats a schedule: docs/load-and-chaos.md. */
import { parseArgs } from "node:util";
import { numberFrom, report } from "./command.ts";
import { type FaultKind, faultKinds } from "./faults.ts";
import { runChaos } from "./run-chaos.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "60" },
    speed: { type: "string", default: "6" },
    jobs: { type: "string", default: "30" },
    seed: { type: "string", default: process.env["SEED"] ?? "1" },
    only: { type: "string" },
    out: { type: "string", default: "chaos-report" },
  },
});
const options = {
  minutes: numberFrom("--minutes", values.minutes, { least: 0.1, most: 10_000 }),
  speed: numberFrom("--speed", values.speed, { least: 1, most: 60 }),
  jobs: numberFrom("--jobs", values.jobs, { least: 1, most: 45, whole: true }),
  seed: numberFrom("--seed", values.seed, { least: 0, most: 2 ** 32 - 1, whole: true }),
  logDirectory: values.out,
  ...(values.only === undefined ? {} : { only: kindsFrom(values.only) }),
};

/** `--only "manager killed,partition"` */
function kindsFrom(text: string): FaultKind[] {
  const names = text.split(",").map((name) => name.trim());
  const kinds = faultKinds.filter((kind) => names.includes(kind));
  const unknown = names.filter((name) => !kinds.some((kind) => kind === name));
  if (unknown.length === 0) return kinds;
  console.error(`--only: there is no ${unknown.join(", ")}; there are: ${faultKinds.join(", ")}`);
  process.exit(2);
}

await report(values.out, async (progress, signal) => await runChaos({ ...options, signal }, progress));
