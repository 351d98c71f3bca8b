import { join } from "node:path";
import type { CiVariable, Project } from "./model.ts";
import { createRepository, type RepositorySource } from "./repository.ts";

interface NewProject {
  /** `group/project`. */
  readonly path?: string;
  /** Without one the project has no Git: its jobs need `GIT_STRATEGY: none`. */
  readonly repository?: RepositorySource;
  readonly variables?: readonly (Pick<CiVariable, "key" | "value"> & Partial<CiVariable>)[];
}

export interface Projects {
  add(options?: NewProject): Promise<Project>;
  at(path: string): Project | undefined;
}

export function createProjects(directory: string): Projects {
  const all: Project[] = [];

  async function add({ path, repository: source, variables = [] }: NewProject = {}): Promise<Project> {
    const id = all.length + 1;
    const repository = source && join(directory, "repositories", `${id}.git`);
    const defaultBranch = source && repository ? await createRepository(repository, source) : "main";
    const project = {
      id,
      path: path ?? `group/project${id === 1 ? "" : `-${id}`}`,
      repository,
      defaultBranch,
      variables: variables.map((each) => ({ public: false, masked: false, ...each })),
    };
    all.push(project);
    return project;
  }

  return { add, at: (path) => all.find((project) => project.path === path) };
}
