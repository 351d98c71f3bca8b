import type { Group } from "./model.ts";

// Far from the ids of projects, so that a client that takes one for the other is found out.
const FIRST_ID = 501;

export interface Groups {
  all(): readonly Group[];
  /** By id or path. */
  find(idOrPath: string): Group | undefined;
  /** The group at `path`, made with those above it where it is new. */
  at(path: string): Group;
}

export function createGroups(): Groups {
  const all: Group[] = [];

  function at(path: string): Group {
    const known = all.find((group) => group.path === path);
    if (known) return known;
    const above = parentPath(path);
    const parentId = above === undefined ? undefined : at(above).id;
    const group = { id: FIRST_ID + all.length, path, parentId };
    all.push(group);
    return group;
  }

  return {
    all: () => all,
    find: (idOrPath) => all.find((group) => String(group.id) === idOrPath || group.path === idOrPath),
    at,
  };
}

/** `group/sub` of `group/sub/project`; undefined at the top. */
export function parentPath(path: string): string | undefined {
  const end = path.lastIndexOf("/");
  return end < 0 ? undefined : path.slice(0, end);
}

/** True for `path` itself and everything below. */
export function isWithin(path: string, group: string): boolean {
  return path === group || path.startsWith(`${group}/`);
}
