import { matchesGlob } from "node:path";

/** Whether one of the paths matches. GitLab's `*` also takes names that begin with a dot, which Node's leaves out. */
export function anyMatches(pattern: string, paths: readonly string[]): boolean {
  const glob = plainDots(pattern.replace(/^\//, ""));
  return paths.some((path) => matchesGlob(plainDots(path), glob));
}

function plainDots(path: string): string {
  return path.replaceAll(/(^|[/{,])\./g, "$1\u0001");
}
