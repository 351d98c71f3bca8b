import type { Size } from "../domain/size.ts";
import { flintlockSizeProblem } from "./flintlock/config.ts";
import { fakeSizeLimits, LEAST_DISK_MIB, qemuSizeLimits, unusableSize } from "./spec.ts";

/**
 * Why no machine of a driver, by its name in the configuration, can have this size, in words; undefined when one can. For the
 * configuration, which is read before there is any driver.
 */
export function sizeProblemOf(driver: string, size: Size): string | undefined {
  if (size.diskMib < LEAST_DISK_MIB) return `a machine needs ${LEAST_DISK_MIB} MiB of disk`;
  if (driver === "flintlock") return flintlockSizeProblem(size);
  if (driver === "fake") return unusableSize("fake", size, fakeSizeLimits);
  return unusableSize("qemu", size, qemuSizeLimits);
}
