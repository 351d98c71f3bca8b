/** `npm run load [-- --minutes 10 --jobs 120 --real 8 --out DIR --seed 1]`: docs/load-and-chaos.md. */
import { parseArgs } from "node:util";
import { numberFrom, report } from "./command.ts";
import { whyNoMachines } from "./real.ts";
import { runLoad } from "./run-load.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    jobs: { type: "string", default: "120" },
    real: { type: "string", default: "8" },
    seed: { type: "string", default: process.env["SEED"] ?? "1" },
    out: { type: "string", default: "load-report" },
  },
});
const options = {
  minutes: numberFrom("--minutes", values.minutes, { least: 0.05, most: 10_000 }),
  jobs: numberFrom("--jobs", values.jobs, { least: 1, most: 1_000, whole: true }),
  real: numberFrom("--real", values.real, { least: 0, most: 100, whole: true }),
  seed: numberFrom("--seed", values.seed, { least: 0, most: 2 ** 32 - 1, whole: true }),
  logDirectory: values.out,
};
await report(values.out, async (progress, signal) => {
  // Said before the first ten minutes have gone by.
  const problem = options.real > 0 ? await whyNoMachines() : undefined;
  if (problem !== undefined) throw new Error(problem);
  return await runLoad({ ...options, signal }, progress);
});
