import type { DriverName } from "../domain/drivers.ts";
import type { Size } from "../domain/size.ts";
import { flintlockSizeProblem } from "./flintlock/config.ts";
import { fakeSizeLimits, LEAST_DISK_MIB, qemuSizeLimits, unusableSize } from "./spec.ts";

const problems: Readonly<Record<DriverName, (size: Size) => string | undefined>> = {
  flintlock: flintlockSizeProblem,
  fake: (size) => unusableSize("fake", size, fakeSizeLimits),
  qemu: (size) => unusableSize("qemu", size, qemuSizeLimits),
};

/**
 * Why no machine of a driver can have this size, in words; undefined when one can. For the configuration, which is read before there is
 * any driver.
 */
export function sizeProblemOf(driver: DriverName, size: Size): string | undefined {
  if (size.diskMib < LEAST_DISK_MIB) return `a machine needs ${LEAST_DISK_MIB} MiB of disk`;
  return problems[driver](size);
}
