import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

/** Most of what these wait for is time: on two CPUs two of them take half as long as one after the other. */
const together = { maxWorkers: Math.max(2, availableParallelism() - 1), sequence: { groupOrder: 0 } };

const shared = {
  // Only what hangs waits so long. PostgreSQL in this process takes half a minute to start where many share the CPUs.
  testTimeout: 90_000,
  hookTimeout: 120_000,
};

export default defineConfig({
  test: {
    reporters: ["default", "./test/closing-line-reporter.ts"],
    // `npm run coverage`. Counting costs a part of every test, so `make test` does without.
    coverage: {
      provider: "v8",
      include: ["{src,packages}/**/*.ts"],
      exclude: ["**/*.test.ts", "**/*.contract.ts"],
      reporter: ["text-summary", "json-summary"],
      // Programs that tests run as processes of their own are not counted.
      thresholds: { lines: 80, branches: 75 },
    },
    projects: [
      {
        test: {
          ...shared,
          ...together,
          name: "unit",
          include: [
            "{src,packages}/**/*.test.ts",
            "test/*.test.ts",
            "test/load/*.test.ts",
            "bench/**/*.test.ts",
          ],
        },
      },
      {
        test: {
          ...shared,
          ...together,
          name: "integration",
          include: ["test/integration/**/*.test.ts"],
        },
      },
      {
        // Real microVMs under emulation, two files at a time, with deadlines that a busy machine can keep.
        test: {
          ...shared,
          name: "vm",
          include: ["test/vm/**/*.test.ts"],
          testTimeout: 180_000,
          hookTimeout: 600_000,
          maxWorkers: 2,
          maxConcurrency: 2,
          globalSetup: ["./test/vm/build-image.ts"],
          sequence: { groupOrder: 1 },
        },
      },
      {
        // Emulated metal, a host within which real machines run with KVM; after everything else, which it would slow down.
        test: {
          ...shared,
          name: "metal",
          include: ["test/metal/*.test.ts"],
          testTimeout: 180_000,
          hookTimeout: 900_000,
          fileParallelism: false,
          globalSetup: ["./test/vm/build-image.ts"],
          sequence: { groupOrder: 2 },
        },
      },
      {
        test: {
          ...shared,
          ...together,
          name: "simulation",
          include: ["test/simulation/**/*.test.ts"],
          testTimeout: 600_000,
        },
      },
    ],
  },
});
