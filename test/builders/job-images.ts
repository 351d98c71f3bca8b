import type { JobImages } from "../../src/scheduler/ports.ts";

/** For jobs of the shell. */
export const noJobImages: JobImages = { prepare: async () => ({ disks: [], lines: [] }) };
