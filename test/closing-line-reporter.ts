import type { Reporter, TestModule } from "vitest/node";

/** Closes a run with the one plain line that people and CI look for: `N passed, N failed, N skipped`. */
export default class ClosingLineReporter implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, unhandledErrors: ReadonlyArray<unknown>): void {
    const counts = { passed: 0, failed: unhandledErrors.length, skipped: 0 };
    for (const module of modules) {
      if (module.state() === "failed" && module.errors().length > 0) counts.failed++;
      for (const test of module.children.allTests()) {
        const state = test.result().state;
        if (state !== "pending") counts[state]++;
      }
    }
    const line = `\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`;
    // With `npm run coverage` its figures come after the run's end; this line must stay the last.
    process.once("exit", () => process.stdout.write(line));
  }
}
