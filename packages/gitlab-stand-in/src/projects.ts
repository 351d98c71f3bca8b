import { createHash } from "node:crypto";
import { join } from "node:path";
import { type Groups, parentPath } from "./groups.ts";
import type { CiVariable, Project } from "./model.ts";
import { createRepository, type RepositorySource } from "./repository.ts";

interface NewProject {
  /** `group/project` or `group/sub/project`; the groups are made with it. */
  readonly path?: string;
  /** Without one the project has no Git: its jobs need `GIT_STRATEGY: none`. */
  readonly repository?: RepositorySource;
  /** Paths of other projects whose jobs may read it with their token. */
  readonly jobTokenAllowlist?: readonly string[];
  /** What Git LFS keeps of it; its pointers are files of the repository. */
  readonly largeFiles?: readonly Buffer[];
  readonly variables?: readonly (Pick<CiVariable, "key" | "value"> & Partial<CiVariable>)[];
}

export interface Projects {
  add(options?: NewProject): Promise<Project>;
  all(): readonly Project[];
  at(path: string): Project | undefined;
  /** By id or path. */
  find(idOrPath: string): Project | undefined;
}

export function createProjects(directory: string, groups: Groups): Projects {
  const all: Project[] = [];
  let nextId = 1;

  async function add(options: NewProject = {}): Promise<Project> {
    const { path, repository: source, jobTokenAllowlist = [], largeFiles = [], variables = [] } = options;
    const id = nextId++;
    const repository = source && join(directory, "repositories", `${id}.git`);
    const defaultBranch = source && repository ? await createRepository(repository, source) : "main";
    const project = {
      id,
      path: path ?? `group/project${id === 1 ? "" : `-${id}`}`,
      archived: false,
      repository,
      defaultBranch,
      jobTokenAllowlist,
      largeFiles: new Map(largeFiles.map((file) => [createHash("sha256").update(file).digest("hex"), file])),
      variables: variables.map((each) => ({ public: false, masked: false, ...each })),
    };
    const group = parentPath(project.path);
    if (group !== undefined) groups.at(group);
    all.push(project);
    return project;
  }

  return {
    add,
    all: () => all,
    at: (path) => all.find((project) => project.path === path),
    find: (idOrPath) => all.find((project) => String(project.id) === idOrPath || project.path === idOrPath),
  };
}
