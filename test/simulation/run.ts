/** Runs the simulation outside of the tests: `npm run simulate -- --seed 17` shows one seed, `--count 5000` looks for failures. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { simulate } from "./simulate.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    count: { type: "string", default: "1" },
    verbose: { type: "boolean", default: false },
  },
});
const directory = await mkdtemp(join(tmpdir(), "fr-simulate-"));
const first = Number(values.seed);
const startedAt = performance.now();
let failed = 0;
try {
  for (let seed = first; seed < first + Number(values.count); seed++) {
    const { broken, history } = await simulate(seed, join(directory, "key"));
    if (broken.length > 0) failed++;
    if (values.verbose || (broken.length > 0 && failed <= 3)) console.log(history.join("\n"));
    if (broken.length > 0) console.log(`seed ${seed}:\n  ${broken.join("\n  ")}`);
  }
} finally {
  await rm(directory, { recursive: true, force: true });
}
console.log(
  `${values.count} seeds from ${first}, ${failed} failed, ${Math.round(performance.now() - startedAt)} ms`,
);
process.exitCode = failed > 0 ? 1 : 0;
