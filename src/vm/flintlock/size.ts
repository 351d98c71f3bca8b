/** Sizes of machines on hosts of a fleet. Apart from the other checks, since the configuration needs nothing of gRPC. */
import type { Size } from "../../domain/size.ts";
import { unusableSize } from "../spec.ts";

const MOST_CPUS = 32;
const LEAST_MEMORY_MIB = 1_024;
const MOST_MEMORY_MIB = 32_768;

/** Why no machine can have this size, in words. */
export function flintlockSizeProblem(size: Size): string | undefined {
  const problem = unusableSize("flintlock", size, { mostCpus: MOST_CPUS, leastMemoryMib: LEAST_MEMORY_MIB });
  if (problem !== undefined) return problem;
  if (size.cpus > 1 && size.cpus % 2 !== 0)
    return "the flintlock driver gives 1 CPU or an even number of CPUs";
  if (size.memoryMib > MOST_MEMORY_MIB) return "the flintlock driver gives at most 32 GiB of memory";
  return undefined;
}
