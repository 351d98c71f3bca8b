import { z } from "zod";
import type { Metal } from "./machine.ts";

/** How one test ended that ran on the emulated host. */
export interface Verdict {
  readonly name: string;
  readonly passed: boolean;
  readonly ms: number;
  readonly reason: string;
}

/** What vitest's json reporter writes, as far as it is read. */
const Report = z.object({
  testResults: z.array(
    z.object({
      message: z.string().optional(),
      assertionResults: z.array(
        z.object({
          fullName: z.string(),
          status: z.string(),
          duration: z.number().nullish(),
          failureMessages: z.array(z.string()).nullish(),
        }),
      ),
    }),
  ),
});

export async function readVerdicts(metal: Metal, path: string): Promise<Verdict[]> {
  const { status, output } = await metal.run(`cat ${path}`);
  if (status !== 0) throw new Error(`the tests inside left no verdicts: ${output}`);
  const isRun = ({ status }: { status: string }) => !["pending", "skipped", "todo"].includes(status);
  return Report.parse(JSON.parse(output)).testResults.flatMap(({ assertionResults }) =>
    assertionResults.filter(isRun).map(({ fullName, status, duration, failureMessages }) => ({
      name: fullName,
      passed: status === "passed",
      ms: Math.round(duration ?? 0),
      reason: (failureMessages ?? []).join("\n").slice(0, 1_000),
    })),
  );
}
