/** The `vm` slice of the configuration, and which sizes each driver has: known before there is any driver. */
import { z } from "zod";
import { CpuOvercommit, durationMs, sizeMib } from "../domain/config.ts";
import type { DriverName } from "../domain/drivers.ts";
import type { Size } from "../domain/size.ts";
import { FlintlockConfig, flintlockSizeProblem } from "./flintlock/config.ts";
import { fakeSizeLimits, LEAST_DISK_MIB, qemuSizeLimits, unusableSize } from "./spec.ts";

const Qemu = z.strictObject({
  accelerator: z
    .enum(["auto", "kvm", "tcg"])
    .default("auto")
    .meta({ description: "kvm needs the hardware; tcg emulates it slowly; auto takes kvm where it works." }),
  trialBoot: durationMs().prefault("20s").meta({
    description:
      "How long the trial boot may take that shows whether KVM works; longer on nested, slow hosts.",
  }),
  consoleLimit: sizeMib()
    .refine((mib) => mib >= 1, "at least 1MiB")
    .default(1)
    .meta({ description: "How much of a machine's console is kept; the oldest is dropped." }),
  firstUserId: z.number().int().min(1_000).max(2_147_000_000).optional().meta({
    description:
      "Started by root, each machine runs as an unprivileged user of its own, from here on; by default from the first id above 1900000000 that no other FireRunner on this computer has.",
  }),
  userIds: z
    .number()
    .int()
    .min(1)
    .max(100_000)
    .default(10_000)
    .meta({ description: "How many user ids from firstUserId on belong to machines." }),
});

const Overcommit = z.strictObject({
  disk: z.number().min(0.1).max(100).default(1).meta({
    description:
      "Scratch disk that machines may be promised for each byte there is; with 1, whatever they write fits.",
  }),
});

/** The `vm` slice: what this computer gives to machines, and how drivers run them. */
export const VmConfig = z
  .strictObject({
    cpuOvercommit: CpuOvercommit,
    memoryReserve: sizeMib()
      .optional()
      .meta({ description: "Memory kept for the host; by default a tenth, at least 1GiB." }),
    maxMachines: z
      .number()
      .int()
      .min(1)
      .optional()
      .meta({ description: "Machines at one time; by default as many as there are virtual CPUs to give." }),
    minFreeDisk: sizeMib().default(1024).meta({
      description:
        "Kept free of machines' disks: none is started below this, and below half of it the machine that has written most is ended.",
    }),
    overcommit: Overcommit.prefault({}).meta({ description: "What is given away more than once." }),
    qemu: Qemu.prefault({}).meta({ description: "The qemu driver." }),
    flintlock: FlintlockConfig.prefault({}).meta({
      description: "The flintlock driver: machines on other hosts.",
    }),
    placement: z.enum(["spread", "pack"]).default("spread").meta({
      description: "Where a machine goes that fits on several hosts: the emptiest, or the fullest.",
    }),
  })
  .meta({ reload: "restart" });
export type VmConfig = z.infer<typeof VmConfig>;

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
