import { describeError } from "../../src/base/errors.ts";
import { brokenPromises } from "./invariants.ts";
import { runWorld, type WorldKind } from "./sim-world.ts";

export interface Outcome {
  readonly seed: number;
  /** Promises that were broken, in words. */
  readonly broken: readonly string[];
  readonly history: readonly string[];
}

/** Lets one seed happen and checks every promise at its end. `keyFile` may be shared by all seeds. */
export async function simulate(kind: WorldKind, seed: number, keyFile: string): Promise<Outcome> {
  const history: string[] = [];
  try {
    const world = await runWorld(kind, seed, keyFile, history);
    const broken = await brokenPromises(world);
    await world.store.close();
    return { seed, broken, history };
  } catch (error) {
    return { seed, broken: [describeError(error)], history };
  }
}
