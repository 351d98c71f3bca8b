import { readFile } from "node:fs/promises";
import { guestFile } from "../../src/base/guest-files.ts";

/** The text of one function of a program of the guest's, to be run by itself. */
export async function guestFunction(program: Parameters<typeof guestFile>[0], name: string): Promise<string> {
  const [text] =
    (await readFile(guestFile(program), "utf8")).match(new RegExp(`^${name}\\(\\) \\{.*?^\\}`, "ms")) ?? [];
  if (text === undefined) throw new Error(`guest/${program} has no function ${name}`);
  return text;
}
