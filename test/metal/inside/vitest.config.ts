import { defineConfig } from "vitest/config";

/** What runs on the emulated host, in one process: starting a second one takes half a minute there. */
export default defineConfig({
  root: "/firerunner",
  cacheDir: "/builds/tmp/vite",
  test: {
    include: ["test/metal/inside/*.test.ts"],
    reporters: ["verbose", ["json", { outputFile: "/builds/tmp/verdicts.json" }]],
    cache: false,
    pool: "threads",
    isolate: false,
    fileParallelism: false,
    // See qemu-kvm.test.ts.
    retry: 1,
    testTimeout: 240_000,
    hookTimeout: 240_000,
  },
});
