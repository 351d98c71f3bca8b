/**
 * Runs the simulation outside of the tests: `npm run simulate` tries 1,000 seeds, `npm run simulate -- --seed 17 --verbose` (or `SEED=17`)
 * shows one of them, `--seed 1001 --count 5000` looks elsewhere. `--world fleet` is a fleet of hosts instead of one.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { isWorldKind } from "./sim-world.ts";
import { simulate } from "./simulate.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    count: { type: "string" },
    world: { type: "string", default: "host" },
    verbose: { type: "boolean", default: false },
  },
});
const { world } = values;
if (!isWorldKind(world)) throw new Error(`there is no world ${world}`);
const directory = await mkdtemp(join(tmpdir(), "fr-simulate-"));
const given = values.seed ?? process.env["SEED"];
const first = Number(given ?? 1);
const count = Number(values.count ?? (given === undefined ? 1_000 : 1));
const startedAt = performance.now();
let failed = 0;
try {
  for (let seed = first; seed < first + count; seed++) {
    const { broken, history } = await simulate(world, seed, join(directory, "key"));
    if (broken.length > 0) failed++;
    if (values.verbose || (broken.length > 0 && failed <= 3)) console.log(history.join("\n"));
    if (broken.length > 0) console.log(`seed ${seed}:\n  ${broken.join("\n  ")}`);
  }
} finally {
  await rm(directory, { recursive: true, force: true });
}
console.log(
  `${count} seeds of the world ${world} from ${first}, ${failed} failed, ${Math.round(performance.now() - startedAt)} ms`,
);
process.exitCode = failed > 0 ? 1 : 0;
