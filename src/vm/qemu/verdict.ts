import { readFile, rename, writeFile } from "node:fs/promises";
import { z } from "zod";

const Verdict = z.object({ key: z.string(), problem: z.string().nullable() });

/**
 * What `test` found out the last time it was asked with this key: a problem in words, or undefined for none. Only the latest
 * key is kept. A file that cannot be read or is torn only means that the test is made again.
 */
export async function remembered(
  path: string,
  key: string,
  test: () => Promise<string | undefined>,
): Promise<string | undefined> {
  const known = await readVerdict(path);
  if (known?.key === key) return known.problem ?? undefined;
  const problem = await test();
  const verdict: z.infer<typeof Verdict> = { key, problem: problem ?? null };
  await writeFile(`${path}.new`, JSON.stringify(verdict), { mode: 0o600 });
  await rename(`${path}.new`, path);
  return problem;
}

async function readVerdict(path: string): Promise<z.infer<typeof Verdict> | undefined> {
  try {
    return Verdict.parse(JSON.parse(await readFile(path, "utf8")));
  } catch {
    return undefined;
  }
}
