import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { join } from "node:path";

/** Where programs are looked for. The environment's PATH is not asked: an administrator's tools lie in sbin. */
const directories = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/** The PATH that helper processes get. */
export const programPath: string = directories.join(":");

/** The full path of a program, or undefined when it is not installed. */
export async function findProgram(name: string): Promise<string | undefined> {
  for (const directory of directories) {
    const path = join(directory, name);
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}
