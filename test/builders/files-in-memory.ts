import type { ReadFile } from "../../src/config/named-files.ts";

/** A file's text, or with its rights where they are others than its owner's alone. */
export type FilesInMemory = Readonly<
  Record<string, string | { readonly text: string; readonly mode: number }>
>;

/** `readFile` for a configuration: these files by their whole paths, and no others. */
export function filesInMemory(files: FilesInMemory): ReadFile {
  return async (path) => {
    const found = files[path];
    if (found === undefined) throw Object.assign(new Error("no such file"), { code: "ENOENT" });
    return typeof found === "string" ? { text: found, mode: 0o600 } : found;
  };
}
